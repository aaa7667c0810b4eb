//! One promise broken on purpose, to see that the simulation notices.
//!
//! Without the feature `sabotage` nothing is ever broken, and the questions cost nothing. With it, a test says what is broken in
//! its own thread.

#[cfg(all(feature = "sabotage", not(debug_assertions)))]
compile_error!("the feature `sabotage` is for tests: it is not part of a release");

/// What can be broken: for each promise one behaviour that keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// P1: answers are sent although the commit failed.
    Answered,
    /// P2: the number of an attempt is not looked at.
    AnyAttempt,
    /// P2: the number of a session is not looked at.
    AnySession,
    /// P3: no timer is armed for a back-off.
    Forgotten,
    /// P4: the slot of a rank whose end was reported is not released.
    Leaked,
    /// P5: a loss counts as a fault.
    Blamed,
    /// P6: every failure becomes an internal one.
    Classless,
    /// P7: what a worker brings back is not listened to.
    Disowned,
    /// P8: a job that is over can be cancelled.
    Undone,
    /// P9: an older checkpoint replaces a newer one.
    Older,
    /// P10: the number of the latest attempt is not kept.
    Uncounted,
}

#[cfg(feature = "sabotage")]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Sabotage>> = const { std::cell::Cell::new(None) };
}

/// From now on this is broken in this thread.
#[cfg(feature = "sabotage")]
pub fn commit(sabotage: Option<Sabotage>) {
    BROKEN.set(sabotage);
}

/// Whether this is broken.
#[inline]
pub fn is(sabotage: Sabotage) -> bool {
    #[cfg(feature = "sabotage")]
    return BROKEN.get() == Some(sabotage);
    #[cfg(not(feature = "sabotage"))]
    {
        let _ = sabotage;
        false
    }
}
