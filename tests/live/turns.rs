//! Which tests run beside one another. Most share the machine: each has a lab, and what it judges is the lab's. A test that
//! restarts libvirtd, takes a picture of the whole machine, or bounds how long a verb takes has the machine for itself.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The tests that are under way.
#[derive(Default)]
struct Turns {
    beside: u32,
    alone: bool,
    /// Those that wait to be alone: nothing begins before them.
    waiting: u32,
}

static TURNS: Mutex<Turns> = Mutex::new(Turns {
    beside: 0,
    alone: false,
    waiting: 0,
});
static ENDED: Condvar = Condvar::new();

thread_local! {
    /// How many turns the test of this thread holds, and whether it is alone: it waits for its first only.
    static HELD: Cell<(u32, bool)> = const { Cell::new((0, false)) };
}

/// A test's turn; over when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    /// It counts for the thread that took it.
    _of_this_thread: PhantomData<*const ()>,
}

fn turns() -> MutexGuard<'static, Turns> {
    // A test that panicked has given its turn back.
    TURNS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(alone: bool) -> Turn {
    let (held, kind) = HELD.get();
    HELD.set((held + 1, if held == 0 { alone } else { kind }));
    if held == 0 {
        let mut turns = turns();
        turns.waiting += u32::from(alone);
        let busy = |turns: &mut Turns| {
            let others = if alone { turns.beside } else { turns.waiting };
            turns.alone || others > 0
        };
        let free = ENDED.wait_while(turns, busy);
        turns = free.unwrap_or_else(PoisonError::into_inner);
        turns.waiting -= u32::from(alone);
        turns.alone = alone;
        turns.beside += u32::from(!alone);
    }
    Turn {
        _of_this_thread: PhantomData,
    }
}

/// A turn beside other tests. A test that has one already is given it at once.
pub(crate) fn beside() -> Turn {
    take(false)
}

/// A turn while no other test runs; the first thing that a test asks for.
pub(crate) fn alone() -> Turn {
    assert_eq!(HELD.get().0, 0, "a test that began beside others");
    take(true)
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (held, alone) = HELD.get();
        HELD.set((held - 1, alone));
        if held > 1 {
            return;
        }
        let mut turns = turns();
        if alone {
            turns.alone = false;
        } else {
            turns.beside -= 1;
        }
        ENDED.notify_all();
    }
}
