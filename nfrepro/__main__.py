"""`python -m nfrepro`."""

from nfrepro.cli import main

if __name__ == "__main__":
    main()
