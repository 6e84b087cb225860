//! What a plugin remembers between two runs.
