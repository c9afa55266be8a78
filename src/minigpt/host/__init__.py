"""What this process may use of the computer it runs on, by its operating system; no torch here."""
