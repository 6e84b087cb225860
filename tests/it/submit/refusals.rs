//! What does not go through, and what the plugin says about it. The state of the check stays what it was.
