"""Optuna's journal in a file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend


class Journal(BaseJournalBackend):
    """Reads and writes what Optuna's own `JournalFileBackend` does, some twenty times as fast.

    It takes no lock, as the run's own keeps other searches out, and forces nothing to disk: what a power cut takes of
    it is told again from the run's trials. What others append is read, as the notes of optuna-dashboard.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        file.touch()
        self.number, self.place = 0, 0
        """Of the next record that was not read yet: its number, and where it begins in the file."""

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The records from that number on."""
        if log_number_from < self.number:
            self.number, self.place = 0, 0
        with self.file.open("rb") as lines:
            lines.seek(self.place)
            for line in lines:
                if not line.endswith(b"\n"):  # somebody is writing it
                    break
                self.number, self.place = self.number + 1, self.place + len(line)
                if self.number > log_number_from:
                    yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends records."""
        lines = (json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self.file.open("ab") as file:
            file.write("".join(lines).encode())
