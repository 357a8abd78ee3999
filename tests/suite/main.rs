//! Tests that need no hypervisor: one binary, a module a subject.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may stop at what it did not expect"
)]

mod baselines_on_sim;
mod binary;
mod command_line;
mod conformance;
mod contributing;
mod faulty_on_sim;
mod golden;
mod lab_on_sim;
mod library_on_sim;
mod qcow2;
mod reports;
mod scenario_files;
mod scenario_on_sim;
mod schemas;
mod support;
mod topology_errors;
mod watching_on_sim;
