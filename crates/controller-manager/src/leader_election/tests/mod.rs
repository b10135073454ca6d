mod candidates;
mod elections;
mod fences;
mod support;
