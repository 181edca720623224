//! What a client asks for, one step after the other.

use super::super::judge::{Event, Key, LONG};
use super::super::line::{Line, Lost};
use super::{By, Client, KEYS, Knows, Mine, token_of};
use crate::common::history::Held;

const SLOTS: u32 = 2;

/// Of a lock that an owner lets end, or makes longer in time.
const LEASE_MS: u64 = 60;

/// A request for locks.
struct Take {
    line: String,
    keys: Vec<Key>,
    by: By,
    held: Held,
    /// It has a lease that ends soon.
    ends: bool,
}

impl Client<'_> {
    pub(super) fn step(&mut self, line: &mut Line) -> Result<(), Lost> {
        self.listen_behind();
        self.listen_aside();
        let key = self.any_key();
        let dice = self.dice.below(12);
        match self.keys[key].knows {
            Knows::Free => self.take(line, key),
            Knows::Open if dice < 6 => self.look(line, key),
            Knows::Has if dice < 3 => self.look(line, key),
            Knows::Has if dice == 3 => self.lock_again(line, key),
            Knows::Has if dice == 4 => self.expire(line, key).map(drop),
            Knows::Has if dice == 5 => self.unlock_all(line),
            Knows::Has | Knows::Open => self.unlock(line, key),
        }
    }

    /// One of those that it has or may have, if these are many: most of the others are to be had then.
    fn any_key(&mut self) -> Key {
        let is_held = |key: &Key| self.keys[*key].knows != Knows::Free;
        let held: Vec<Key> = (0..KEYS).filter(is_held).collect();
        match held.len() > 1 || (held.len() == 1 && self.dice.below(2) == 0) {
            true => self.dice.one_of(&held),
            false => usize::try_from(self.dice.below(KEYS as u64)).expect("few"),
        }
    }

    /// Asks for a key, or several, in one of the ways in which that can be done.
    fn take(&mut self, line: &mut Line, key: Key) -> Result<(), Lost> {
        let wait = self.dice.one_of(&["0", "0", "0.005", "0.02", "0.1"]);
        let take = match self.dice.below(14) {
            0..=6 => self.by_session(key, wait),
            7..=11 => self.by_owner(key, wait),
            _ => self.several(key, wait),
        };
        self.ask_for(line, &take)?;
        match take.ends && self.keys[key].knows == Knows::Open && self.dice.below(2) == 0 {
            true => self.make_longer(line, key),
            false => Ok(()),
        }
    }

    fn by_session(&mut self, key: Key, wait: &str) -> Take {
        let (value, kind) = (self.dice.below(2), self.dice.below(7));
        let (line, held) = match kind {
            0..=3 => (format!("lock k{key} {wait}"), Held::Alone),
            4 | 5 => {
                let line = format!("lock_value k{key} v{value} {wait}");
                (line, Held::Shared(value))
            }
            _ => {
                let line = format!("lock_slot k{key} {SLOTS} {wait}");
                (line, Held::Slot(SLOTS))
            }
        };
        Take {
            line,
            keys: vec![key],
            by: By::Session,
            held,
            ends: false,
        }
    }

    fn by_owner(&mut self, key: Key, wait: &str) -> Take {
        let owner = self.world.new_holder(LONG);
        let (value, kind) = (self.dice.below(2), self.dice.below(5));
        let how = format!("{wait} w{owner}");
        let (line, held) = match kind {
            0 | 1 => (format!("lock k{key} {how} 0"), Held::Alone),
            2 => (format!("lock k{key} {how} {LEASE_MS}"), Held::Alone),
            3 => {
                let line = format!("lock_value k{key} v{value} {how} 3600000");
                (line, Held::Shared(value))
            }
            _ => {
                let line = format!("lock_slot k{key} {SLOTS} {how} 0");
                (line, Held::Slot(SLOTS))
            }
        };
        Take {
            line,
            keys: vec![key],
            by: By::Owner(owner),
            held,
            ends: kind == 2,
        }
    }

    fn several(&mut self, key: Key, wait: &str) -> Take {
        let is_free = |other: &Key| self.keys[*other].knows == Knows::Free;
        let behind = (key + 1..KEYS).filter(is_free).take(2);
        let keys: Vec<Key> = [key].into_iter().chain(behind).collect();
        let names: Vec<String> = keys.iter().map(|key| format!("k{key}")).collect();
        Take {
            line: format!("lock_all {wait} {}", names.join(" ")),
            keys,
            by: By::Session,
            held: Held::Alone,
            ends: false,
        }
    }

    fn ask_for(&mut self, line: &mut Line, take: &Take) -> Result<(), Lost> {
        let holder = self.holder(take.by);
        self.world.write(Event::Asks {
            holder,
            keys: take.keys.clone(),
            held: take.held,
        });
        for &key in &take.keys {
            self.keys[key] = Mine {
                by: take.by,
                held: take.held,
                knows: Knows::Open,
                ends: take.ends,
            };
        }
        line.send(&take.line)?;
        for &key in &take.keys {
            line.send(&token_of(key, take.by))?;
        }
        let answer = self.read(line)?;
        match answer.get(..4).unwrap_or_default() {
            "200 " => self.acquired(take),
            "409 " | "423 " => self.refused(take, answer.starts_with("409 ")),
            _ => {
                self.refuses(&answer, &take.line)?;
                self.doubts(take);
            }
        }
        for &key in &take.keys {
            let answer = self.read(line)?;
            self.told(key, take.by, &answer)?;
        }
        Ok(())
    }

    fn acquired(&mut self, take: &Take) {
        self.world.is_granted(self.number);
        if take.ends {
            return self.doubts(take);
        }
        let holder = self.holder(take.by);
        for &key in &take.keys {
            self.world.write(Event::Acquired { holder, key });
            self.keys[key].knows = Knows::Has;
        }
    }

    fn refused(&mut self, take: &Take, is_held: bool) {
        let holder = self.holder(take.by);
        for &key in &take.keys {
            self.world.write(Event::Refused {
                holder,
                key,
                // Or by its own lease, which has ended before the answer.
                by_others: is_held && take.keys.len() == 1 && !take.ends,
            });
            self.keys[key].knows = Knows::Free;
        }
    }

    fn doubts(&mut self, take: &Take) {
        let holder = self.holder(take.by);
        for &key in &take.keys {
            self.world.write(Event::Doubts { holder, key });
            self.keys[key].knows = Knows::Open;
        }
    }

    /// Has an owner's lock end in an hour instead of in a moment, if it is in time.
    fn make_longer(&mut self, line: &mut Line, key: Key) -> Result<(), Lost> {
        match self.expire(line, key)? {
            true => self.look(line, key),
            false => Ok(()),
        }
    }

    /// Gives a lock a lease that does not end before the trial; whether it is held.
    fn expire(&mut self, line: &mut Line, key: Key) -> Result<bool, Lost> {
        let mine = self.keys[key].clone();
        let request = match mine.by {
            By::Session => format!("expire k{key} 3600000"),
            By::Owner(owner) => format!("expire k{key} 3600000 w{owner}"),
        };
        let answer = self.ask(line, &request)?;
        match answer.as_str() {
            "200 OK" => {
                self.keys[key].ends = false;
                Ok(true)
            }
            _ if answer.starts_with("403 ") => {
                self.told(key, mine.by, &answer)?;
                Ok(false)
            }
            _ => self.refuses(&answer, &request).map(|()| false),
        }
    }

    /// What a session holds it may ask for again.
    fn lock_again(&mut self, line: &mut Line, key: Key) -> Result<(), Lost> {
        let mine = self.keys[key].clone();
        if mine.by != By::Session {
            return self.look(line, key);
        }
        let request = match mine.held {
            Held::Alone => format!("lock k{key}"),
            Held::Shared(value) => format!("lock_value k{key} v{value}"),
            Held::Slot(slots) => format!("lock_slot k{key} {slots}"),
        };
        let answer = self.ask(line, &request)?;
        match answer.get(..4).unwrap_or_default() {
            "200 " => Ok(()),
            "409 " | "423 " => self.told(key, mine.by, "403 "),
            _ => self.refuses(&answer, &request),
        }
    }

    pub(super) fn unlock(&mut self, line: &mut Line, key: Key) -> Result<(), Lost> {
        let by = self.keys[key].by;
        let request = match by {
            By::Session => format!("unlock k{key}"),
            By::Owner(owner) => format!("unlock k{key} w{owner}"),
        };
        self.gives(key);
        let answer = self.ask(line, &request)?;
        let was_held = answer == "200 Unlocked";
        if !was_held && !answer.starts_with("403 ") {
            self.refuses(&answer, &request)?;
            let holder = self.holder(by);
            self.world.write(Event::Doubts { holder, key });
            return Ok(());
        }
        self.released(key, was_held);
        Ok(())
    }

    fn unlock_all(&mut self, line: &mut Line) -> Result<(), Lost> {
        let is_held = |key: &Key| {
            let mine = &self.keys[*key];
            mine.by == By::Session && mine.knows != Knows::Free
        };
        let keys: Vec<Key> = (0..KEYS).filter(is_held).collect();
        keys.iter().for_each(|&key| self.gives(key));
        let answer = self.ask(line, "unlock_all")?;
        if answer == "200 OK" {
            keys.iter().for_each(|&key| self.released(key, true));
            return Ok(());
        }
        self.refuses(&answer, "unlock_all")?;
        let holder = self.holder(By::Session);
        for key in keys {
            self.world.write(Event::Doubts { holder, key });
        }
        Ok(())
    }

    fn gives(&mut self, key: Key) {
        let holder = self.holder(self.keys[key].by);
        self.world.write(Event::Gives { holder, key });
        self.keys[key].knows = Knows::Open;
    }

    fn released(&mut self, key: Key, was_held: bool) {
        let holder = self.holder(self.keys[key].by);
        self.world.write(Event::Released {
            holder,
            key,
            was_held,
        });
        self.keys[key].knows = Knows::Free;
        if let By::Owner(owner) = self.keys[key].by {
            self.ask_aside(key, owner);
        }
    }
}
