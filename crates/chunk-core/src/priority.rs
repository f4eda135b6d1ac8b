//! The four levels of urgency.

use core::fmt;

/// How urgent a request is. Smaller is more urgent: `Critical < High < Medium < Low`.
///
/// The order is strict: one CRITICAL request goes before any number of LOW ones. Within a level the
/// order is that of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(
    clippy::exhaustive_enums,
    reason = "four levels are the requirement, and callers match on all of them"
)]
pub enum Priority {
    /// Playback stalls without it: the current position, or a seek.
    Critical = 0,
    /// Needed next for smooth playback: the read-ahead window.
    High = 1,
    /// Asked for by the user to be there later: pre-cache.
    Medium = 2,
    /// Background fill in file order.
    Low = 3,
}

impl Priority {
    /// Every level, most urgent first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Medium, Self::Low];

    /// The level as the number kept in a database: 0 (critical) to 3 (low).
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// The level a stored number stands for, `None` above 3.
    #[must_use]
    pub const fn from_u8(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::Critical),
            1 => Some(Self::High),
            2 => Some(Self::Medium),
            3 => Some(Self::Low),
            _ => None,
        }
    }

    /// Whether an explicit request of this level survives a restart (MEDIUM and LOW do).
    #[must_use]
    pub const fn is_durable(self) -> bool {
        matches!(self, Self::Medium | Self::Low)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        })
    }
}
