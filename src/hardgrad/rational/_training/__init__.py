"""The published trainer's words on the library's trainer."""
