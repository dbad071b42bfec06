"""`make gpu-check`: what of this project is true on the GPU of this machine, and how fast it is; docs/gpu.md has it."""
