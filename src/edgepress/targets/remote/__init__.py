"""Targets that are not this process: boards over ssh, emulated machines, and fresh processes here."""
