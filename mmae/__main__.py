"""`python -m mmae`."""

from mmae.cli import main

raise SystemExit(main())
