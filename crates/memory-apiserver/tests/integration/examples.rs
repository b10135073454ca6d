//! The examples, which are tests of something that uses the server.

#[path = "../../examples/config_map_controller.rs"]
mod config_map_controller;

#[test]
fn the_example_of_a_controller_passes() {
    config_map_controller::main().unwrap();
}
