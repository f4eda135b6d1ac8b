//! The space ledger against plain sums.

use chunk_core::SpaceLedger;
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn trap16_the_cap_and_the_floor_hold_at_every_instant(
        ops in vec((0..6_u8, 0..100_u64), 1..100),
        cap in 1..300_u64,
        floor in 0..50_u64,
        disk in 0..300_u64,
    ) {
        let mut ledger = SpaceLedger::new(cap);
        ledger.set_floor(floor);
        ledger.observe_free(disk);
        let (mut used, mut reserved, mut free) = (0, 0, disk);
        for (op, bytes) in ops {
            match op {
                0 | 1 => {
                    let fits = used + reserved + bytes <= cap
                        && reserved + bytes + floor <= free;
                    let room = ledger.room();
                    let result = ledger.reserve(bytes);
                    prop_assert_eq!(result.is_ok(), fits || bytes == 0);
                    prop_assert_eq!(result.is_ok(), bytes <= room);
                    match result {
                        Ok(()) => reserved += bytes,
                        Err(shortfall) => {
                            // Exactly so much eviction makes the same request succeed.
                            let mut later = ledger.clone();
                            if later.freed(shortfall.missing) == shortfall.missing {
                                prop_assert!(!shortfall.is_hopeless);
                                prop_assert_eq!(later.reserve(bytes), Ok(()));
                                let mut short = ledger.clone();
                                short.freed(shortfall.missing - 1);
                                prop_assert!(short.reserve(bytes).is_err());
                            }
                            if shortfall.is_hopeless {
                                let mut empty = ledger.clone();
                                empty.release(u64::MAX);
                                empty.freed(u64::MAX);
                                prop_assert!(empty.reserve(bytes).is_err());
                            }
                        }
                    }
                }
                2 => {
                    let done = bytes.min(reserved);
                    prop_assert_eq!(ledger.commit(bytes), done);
                    reserved -= done;
                    used += done;
                    free -= done;
                }
                3 => {
                    prop_assert_eq!(ledger.release(bytes), bytes.min(reserved));
                    reserved -= bytes.min(reserved);
                }
                4 => {
                    prop_assert_eq!(ledger.freed(bytes), bytes.min(used));
                    free += bytes.min(used);
                    used -= bytes.min(used);
                }
                _ => {
                    // Nobody else uses the disk here, so looking again finds what was reckoned.
                    ledger.observe_free(free);
                }
            }
            prop_assert_eq!((ledger.used(), ledger.reserved()), (used, reserved));
            prop_assert!(used + reserved <= cap);
            prop_assert!(reserved == 0 || reserved + floor <= free);
        }
    }

    #[test]
    fn no_number_upsets_the_ledger(ops in vec((0..8_u8, any::<u64>()), 0..60)) {
        let mut ledger = SpaceLedger::new(u64::MAX);
        for (op, bytes) in ops {
            match op {
                0 => ledger.set_cap(bytes),
                1 => ledger.set_floor(bytes),
                2 => ledger.observe_free(bytes),
                3 => ledger.adopt(bytes),
                4 => drop(ledger.commit(bytes)),
                5 => drop(ledger.release(bytes)),
                6 => drop(ledger.freed(bytes)),
                _ => {
                    let granted = ledger.reserve(bytes).is_ok();
                    prop_assert!(!granted || bytes == 0 || ledger.excess() == 0);
                }
            }
        }
    }
}

#[test]
fn trap16_the_floor_is_of_free_space() {
    let mut ledger = SpaceLedger::new(1_000_000);
    ledger.set_floor(500);
    // A large disk that is nearly full: the cap alone would allow a million.
    ledger.observe_free(600);
    assert_eq!(ledger.room(), 100);
    let refused = ledger.reserve(150).unwrap_err();
    assert_eq!((refused.wanted, refused.missing), (150, 50));
    assert!(refused.is_hopeless, "there is nothing to evict");
    // Somebody else filled it further: that much has to go.
    ledger.adopt(1_000);
    ledger.observe_free(200);
    assert_eq!(ledger.excess(), 300);
    // Of the 1,200 bytes that are ours or nobody's, the floor takes 500.
    assert_eq!(ledger.most(), 700);
    assert!(!ledger.reserve(100).unwrap_err().is_hopeless);
}

#[test]
fn more_than_the_cap_never_fits() {
    let mut ledger = SpaceLedger::new(100);
    ledger.adopt(100);
    assert!(!ledger.reserve(100).unwrap_err().is_hopeless);
    assert!(ledger.reserve(101).unwrap_err().is_hopeless);
    ledger.freed(100);
    assert_eq!(ledger.reserve(100), Ok(()));
}

#[test]
fn a_lower_cap_says_how_much_has_to_go() {
    let mut ledger = SpaceLedger::new(100);
    ledger.reserve(80).unwrap();
    ledger.commit(60);
    ledger.set_cap(50);
    assert_eq!((ledger.cap(), ledger.excess(), ledger.room()), (50, 30, 0));
    ledger.freed(30);
    assert_eq!(ledger.excess(), 0);
}
