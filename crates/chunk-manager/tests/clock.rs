//! The clock keeps the contract of its port.

use chunk_manager::TokioClock;

fn fresh() -> TokioClock {
    TokioClock::new()
}

chunk_testkit::clock_conformance!(fresh);
