//! Tests of the whole, a module per area.

mod bad_input;
