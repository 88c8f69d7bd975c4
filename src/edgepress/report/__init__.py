"""Evidence and verdicts as something to read: HTML, markdown, JSON, and a summary for the terminal."""
