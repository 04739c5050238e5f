"""What a run leaves behind: its folder, and lines for people."""

from .run_folder import RunFolder as RunFolder
