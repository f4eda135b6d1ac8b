//! A clock that tells work that goes round in circles from work that goes on.
use std::sync::Mutex;

use async_trait::async_trait;
use chunk_core::Tick;
use chunk_manager::TokioClock;
use chunk_ports::Clock;

/// How often the manager may ask for the time before it moves. Virtual time stands still while anything is to be
/// done, and every run that begins or ends asks: forty orders at once ask some thousands of times.
const MOST: u32 = 100_000;

/// The runtime's clock. It panics in whoever asks once too often at one instant: that breaks the circle, and what it
/// would have done is missed by the test.
#[derive(Debug, Default)]
pub struct ImpatientClock {
    inner: TokioClock,
    asked: Mutex<(Tick, u32)>,
}

#[async_trait]
impl Clock for ImpatientClock {
    fn now(&self) -> Tick {
        let now = self.inner.now();
        let times = {
            let mut asked = self.asked.lock().unwrap();
            *asked = if asked.0 == now {
                (now, asked.1 + 1)
            } else {
                (now, 1)
            };
            asked.1
        };
        assert!(times <= MOST, "work goes round in circles at {now:?}");
        now
    }

    async fn sleep_until(&self, deadline: Tick) {
        self.inner.sleep_until(deadline).await;
    }

    fn unix_seconds(&self) -> i64 {
        self.inner.unix_seconds()
    }
}
