"""`mmae config`: its commands. The command line finds this module by name."""

from __future__ import annotations

from typing import Final

COMMANDS: Final = {
    "show": ("mmae.run.show_config", "every key of a recipe or run, its value, and where the value comes from"),
}
