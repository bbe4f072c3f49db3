from __future__ import annotations

from squares.main import main

if __name__ == "__main__":
    main()
