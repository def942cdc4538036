//! Where the programs are that walk through a group, and what each comes to next. Pure.
//!
//! A walk goes in the listing's order (`grep -r`, `find`), in that of the names (a shell's `*`), or in one of them backwards (the threads
//! of `rg` take what they found last first). Its steps tell which: the order in which they are short. Threads of one program overtake one
//! another a little; steps that are long in every order are another program's.

use std::cmp::Reverse;

/// Programs that are kept apart, at most.
const MOST: usize = 4;
/// A step of one walk, at most, in streams.
const STEP: i64 = 32;
/// A step that is longer tells little of where the walk goes.
const LEAP: i64 = 8;
/// What an earlier step counts beside the one after it.
const FADING: f64 = 0.5;

/// A place in the listing's order and in that of the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ranks {
    pub(crate) listing: i64,
    pub(crate) names: i64,
}

impl Ranks {
    fn of(self, order: Order) -> i64 {
        match order {
            Order::Listing => self.listing,
            Order::Names => self.names,
            Order::ListingBack => -self.listing,
            Order::NamesBack => -self.names,
        }
    }
}

/// How a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Listing,
    Names,
    ListingBack,
    NamesBack,
}

impl Order {
    const ALL: [Order; 4] = [Order::Listing, Order::Names, Order::ListingBack, Order::NamesBack];
}

/// One program.
#[derive(Debug)]
struct Walker {
    /// What it opened last.
    at: Ranks,
    /// How far it has come in each order: a thread that lags doesn't take the walk back.
    front: [i64; 4],
    /// The length of its steps of late by the listing and by names …
    length: [f64; 2],
    /// … and where they lead.
    drift: [f64; 2],
    /// Number of its last open.
    open: u64,
}

impl Walker {
    fn at(at: Ranks, open: u64) -> Walker {
        Walker { at, front: Order::ALL.map(|order| at.of(order)), length: [0.0; 2], drift: [0.0; 2], open }
    }

    /// How long a step to `ranks` is in the order in which it is shortest.
    fn step(&self, ranks: Ranks) -> i64 {
        (ranks.listing - self.at.listing).abs().min((ranks.names - self.at.names).abs())
    }

    fn go(&mut self, ranks: Ranks, open: u64) {
        for (order, front) in Order::ALL.iter().zip(&mut self.front) {
            let (to, from) = (ranks.of(*order), self.at.of(*order));
            // A step that is no step in this order begins it anew.
            *front = if (to - from).abs() > LEAP { to } else { to.max(*front) };
        }
        let steps = [ranks.listing - self.at.listing, ranks.names - self.at.names].map(|step| step as f64);
        // After a leap the walk may go on anyhow.
        let is_leap = self.step(ranks) > LEAP;
        for ((length, drift), step) in self.length.iter_mut().zip(&mut self.drift).zip(steps) {
            *length = if is_leap { 0.0 } else { *length * FADING } + step.abs();
            *drift = if is_leap { step.signum() } else { *drift * FADING + step };
        }
        (self.at, self.open) = (ranks, open);
    }

    /// The order and how far it has come in it; `None` as long as one open alone is known.
    fn order(&self) -> Option<(Order, i64)> {
        let by_names = self.length[1] < self.length[0];
        let drift = self.drift[usize::from(by_names)];
        let at = usize::from(by_names) + if drift < 0.0 { 2 } else { 0 };
        (drift != 0.0).then(|| (Order::ALL[at], self.front[at]))
    }
}

/// The programs that walk through one group.
#[derive(Debug, Default)]
pub(crate) struct Walkers {
    walkers: Vec<Walker>,
    opens: u64,
    /// A program searches what it lists: it goes by the listing from its beginning on, until its steps tell otherwise.
    searched: bool,
}

impl Walkers {
    /// A program searches what it lists.
    pub(crate) fn search(&mut self) {
        self.searched = true;
    }

    /// A stream is opened.
    pub(crate) fn opened(&mut self, ranks: Ranks) {
        self.opens += 1;
        let nearest = self.walkers.iter_mut().min_by_key(|walker| (walker.step(ranks), Reverse(walker.open)));
        match nearest {
            Some(walker) if walker.step(ranks) == 0 => walker.open = self.opens,
            Some(walker) if walker.step(ranks) <= STEP => walker.go(ranks, self.opens),
            _ => {
                self.walkers.push(Walker::at(ranks, self.opens));
                if self.walkers.len() > MOST {
                    let oldest = (0..self.walkers.len()).min_by_key(|at| self.walkers[*at].open);
                    oldest.map(|at| self.walkers.remove(at));
                }
            }
        }
    }

    /// How many streams lie between a stream and the nearest walk that comes to it yet; `None` if none is known to.
    pub(crate) fn distance(&self, ranks: Ranks) -> Option<i64> {
        let start = self.searched && self.walkers.iter().all(|walker| walker.order().is_none());
        let search = start.then(|| {
            let from = self.walkers.iter().map(|walker| walker.at.listing).max().unwrap_or(-1);
            ranks.listing - from
        });
        let walks = self.walkers.iter().filter_map(Walker::order).map(|(order, front)| ranks.of(order) - front);
        walks.chain(search).filter(|distance| *distance > 0).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a hundred streams whose names are in another order than the listing's.
    fn ranks(listing: i64) -> Ranks {
        Ranks { listing, names: listing * 37 % 101 }
    }

    fn named(names: i64) -> Ranks {
        // 37 × 71 = 1 (mod 101)
        ranks(names * 71 % 101)
    }

    fn after(opens: impl IntoIterator<Item = Ranks>) -> Walkers {
        let mut walkers = Walkers::default();
        opens.into_iter().for_each(|ranks| walkers.opened(ranks));
        walkers
    }

    #[test]
    fn a_walk_is_known_by_its_second_step_in_either_order_and_backwards() {
        assert_eq!(after([ranks(7)]).distance(ranks(8)), None, "where it goes isn't known");
        let listing = after([ranks(7), ranks(8), ranks(9)]);
        assert_eq!((listing.distance(ranks(12)), listing.distance(ranks(5))), (Some(3), None));
        let names = after([named(7), named(8), named(9)]);
        assert_eq!((names.distance(named(12)), names.distance(named(5))), (Some(3), None));
        let back = after([ranks(60), ranks(59), ranks(58)]);
        assert_eq!((back.distance(ranks(50)), back.distance(ranks(61))), (Some(8), None));
        let back = after([named(60), named(59), named(58)]);
        assert_eq!((back.distance(named(50)), back.distance(named(61))), (Some(8), None));
    }

    #[test]
    fn threads_that_overtake_one_another_are_one_walk() {
        let walk = after([0, 1, 3, 2, 5, 4, 6, 8, 7].map(ranks));
        assert_eq!(walk.walkers.len(), 1);
        assert_eq!(walk.distance(ranks(9)), Some(1), "the one that lags doesn't take it back");
    }

    #[test]
    fn after_a_leap_back_one_step_tells_where_it_goes() {
        let walk = after([20, 21, 22, 23, 3, 4].map(|at| Ranks { listing: at, names: at }));
        assert_eq!(walk.distance(Ranks { listing: 6, names: 6 }), Some(2));
    }

    #[test]
    fn two_walks_are_kept_apart() {
        let (mut both, mut opens) = (Walkers::default(), 0);
        for step in 0..5 {
            both.opened(Ranks { listing: step, names: 1000 + step });
            both.opened(Ranks { listing: 500 - step, names: 3000 + step * 7 });
            opens += 2;
        }
        assert_eq!((both.walkers.len(), both.opens), (2, opens));
        assert_eq!(both.distance(Ranks { listing: 6, names: 1006 }), Some(2));
        assert_eq!(both.distance(Ranks { listing: 490, names: 0 }), Some(6));
        for at in 0..10 {
            both.opened(Ranks { listing: 10_000 + at * 100, names: 20_000 + at * 100 });
        }
        assert_eq!(both.walkers.len(), MOST);
    }

    #[test]
    fn a_search_begins_at_the_listings_beginning() {
        let mut search = Walkers::default();
        search.search();
        assert_eq!(search.distance(ranks(0)), Some(1));
        search.opened(ranks(0));
        assert_eq!((search.distance(ranks(0)), search.distance(ranks(3))), (None, Some(3)));
        let mut back = Walkers::default();
        back.search();
        [99, 98, 97].into_iter().for_each(|at| back.opened(ranks(at)));
        assert_eq!(back.distance(ranks(90)), Some(7), "its steps tell otherwise");
    }

    #[test]
    fn what_is_opened_again_is_no_step() {
        let walk = after([ranks(3), ranks(4), ranks(4), ranks(4)]);
        assert_eq!(walk.distance(ranks(5)), Some(1));
    }
}
