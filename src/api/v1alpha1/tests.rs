//! What holds for all kinds: nothing is lost between reading and writing.
