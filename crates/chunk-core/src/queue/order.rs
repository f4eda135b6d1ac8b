//! The intervals of a queue, each level's in the order they go.
//!
//! Whatever comes to a level goes to its end, and what is left of an interval stays where that was. Nothing ever has
//! to be searched for its place, so that a list does where a sorted set would cost a search for each change.

use alloc::vec::Vec;
use core::iter;
use core::num::NonZeroUsize;

use super::Demand;
use crate::{ByteRange, Priority};

/// Where an interval is kept, as long as it is queued. Not zero, so that one that may be missing is no wider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(NonZeroUsize);

/// One list per level, linked both ways because intervals leave from everywhere.
#[derive(Clone, Debug)]
pub(super) struct Order<K> {
    nodes: Vec<Node<K>>,
    /// The nodes that hold nothing.
    vacant: Vec<Slot>,
    /// Most urgent first.
    levels: [Ends; 4],
}

#[derive(Clone, Copy, Debug)]
struct Node<K> {
    demand: Demand<K>,
    previous: Option<Slot>,
    next: Option<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: Option<Slot>,
    last: Option<Slot>,
}

impl Slot {
    const fn of(index: usize) -> Self {
        Self(NonZeroUsize::MIN.saturating_add(index))
    }

    const fn index(self) -> usize {
        self.0.get() - 1
    }
}

impl<K: Copy> Order<K> {
    pub(super) const fn new() -> Self {
        let empty = Ends {
            first: None,
            last: None,
        };
        Self {
            nodes: Vec::new(),
            vacant: Vec::new(),
            levels: [empty; 4],
        }
    }

    /// How many intervals there are.
    pub(super) const fn len(&self) -> usize {
        self.nodes.len() - self.vacant.len()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<Demand<K>> {
        Some(self.nodes.get(slot.index())?.demand)
    }

    /// What goes last at a level.
    pub(super) fn last(&self, priority: Priority) -> Option<(Slot, Demand<K>)> {
        let slot = self.ends(priority).last?;
        Some((slot, self.get(slot)?))
    }

    /// What there is at a level, in the order it goes.
    pub(super) fn at(&self, priority: Priority) -> impl Iterator<Item = (Slot, Demand<K>)> + '_ {
        let mut next = self.ends(priority).first;
        iter::from_fn(move || {
            let slot = next?;
            let node = self.nodes.get(slot.index())?;
            next = node.next;
            Some((slot, node.demand))
        })
    }

    /// Adds an interval at the end of its level.
    pub(super) fn push(&mut self, demand: Demand<K>) -> Slot {
        let last = self.ends(demand.priority).last;
        self.add(demand, last, None)
    }

    /// Adds an interval behind one of the same level.
    pub(super) fn insert_after(&mut self, slot: Slot, demand: Demand<K>) -> Slot {
        let next = self.nodes.get(slot.index()).and_then(|node| node.next);
        self.add(demand, Some(slot), next)
    }

    /// The interval has other bytes from now on, in the same place.
    pub(super) fn resize(&mut self, slot: Slot, range: ByteRange) {
        if let Some(node) = self.nodes.get_mut(slot.index()) {
            node.demand.range = range;
        }
    }

    /// Moves an interval to the end of another level, as the push of that number.
    pub(super) fn promote(&mut self, slot: Slot, priority: Priority, sequence: u64) {
        self.unlink(slot);
        let last = self.ends(priority).last;
        if let Some(node) = self.nodes.get_mut(slot.index()) {
            node.demand.priority = priority;
            node.demand.sequence = sequence;
            self.link(slot, last, None);
        }
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.unlink(slot);
        self.vacant.push(slot);
        if self.len() == 0 {
            // A long queue is not remembered for ever.
            self.nodes = Vec::new();
            self.vacant = Vec::new();
        }
    }

    fn add(&mut self, demand: Demand<K>, previous: Option<Slot>, next: Option<Slot>) -> Slot {
        let node = Node {
            demand,
            previous: None,
            next: None,
        };
        let slot = self.vacant.pop().unwrap_or(Slot::of(self.nodes.len()));
        match self.nodes.get_mut(slot.index()) {
            Some(vacant) => *vacant = node,
            None => self.nodes.push(node),
        }
        self.link(slot, previous, next);
        slot
    }

    /// Puts an interval between two that are neighbours, or at an end of its level.
    fn link(&mut self, slot: Slot, previous: Option<Slot>, next: Option<Slot>) {
        let Some(node) = self.nodes.get_mut(slot.index()) else {
            return;
        };
        node.previous = previous;
        node.next = next;
        let level = node.demand.priority;
        *self.after(previous, level) = Some(slot);
        *self.before(next, level) = Some(slot);
    }

    fn unlink(&mut self, slot: Slot) {
        let Some(&node) = self.nodes.get(slot.index()) else {
            return;
        };
        let level = node.demand.priority;
        *self.after(node.previous, level) = node.next;
        *self.before(node.next, level) = node.previous;
    }

    /// The link to what follows an interval, or to what a level begins with.
    fn after(&mut self, previous: Option<Slot>, level: Priority) -> &mut Option<Slot> {
        match previous.and_then(|slot| self.nodes.get_mut(slot.index())) {
            Some(node) => &mut node.next,
            None => &mut ends_mut(&mut self.levels, level).first,
        }
    }

    /// The link to what precedes an interval, or to what a level ends with.
    fn before(&mut self, next: Option<Slot>, level: Priority) -> &mut Option<Slot> {
        match next.and_then(|slot| self.nodes.get_mut(slot.index())) {
            Some(node) => &mut node.previous,
            None => &mut ends_mut(&mut self.levels, level).last,
        }
    }

    const fn ends(&self, priority: Priority) -> Ends {
        let [critical, high, medium, low] = self.levels;
        match priority {
            Priority::Critical => critical,
            Priority::High => high,
            Priority::Medium => medium,
            Priority::Low => low,
        }
    }
}

const fn ends_mut(levels: &mut [Ends; 4], priority: Priority) -> &mut Ends {
    let [critical, high, medium, low] = levels;
    match priority {
        Priority::Critical => critical,
        Priority::High => high,
        Priority::Medium => medium,
        Priority::Low => low,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(key: u64, priority: Priority) -> Demand<u64> {
        let range = ByteRange::try_new(0, 1).expect("a byte");
        Demand {
            key,
            range,
            priority,
            sequence: key,
        }
    }

    fn keys(order: &Order<u64>, priority: Priority) -> Vec<u64> {
        order.at(priority).map(|(_, demand)| demand.key).collect()
    }

    #[test]
    fn intervals_leave_and_come_at_any_place() {
        let mut order = Order::new();
        let slots: Vec<Slot> = (0..4)
            .map(|key| order.push(demand(key, Priority::Low)))
            .collect();
        order.insert_after(slots[1], demand(10, Priority::Low));
        order.remove(slots[0]);
        order.promote(slots[2], Priority::High, 7);
        order.insert_after(slots[3], demand(11, Priority::Low));
        order.push(demand(12, Priority::High));
        assert_eq!(keys(&order, Priority::Low), [1, 10, 3, 11]);
        assert_eq!(keys(&order, Priority::High), [2, 12]);
        let last = order.last(Priority::Low).map(|(_, demand)| demand.key);
        assert_eq!(last, Some(11));
        assert_eq!(order.get(slots[2]).map(|demand| demand.sequence), Some(7));
    }

    #[test]
    fn a_long_queue_that_has_been_served_holds_no_memory() {
        let mut order = Order::new();
        let slots: Vec<Slot> = (0..1_000)
            .map(|key| order.push(demand(key, Priority::Low)))
            .collect();
        for (left, &slot) in slots.iter().enumerate().rev() {
            order.remove(slot);
            assert_eq!(order.len(), left);
        }
        assert_eq!((order.nodes.capacity(), order.vacant.capacity()), (0, 0));
    }
}
