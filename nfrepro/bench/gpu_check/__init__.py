"""`make gpu-check`: checks this project on the GPU of this machine, and measures its speed; results in docs/gpu.md."""
