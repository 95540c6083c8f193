//! What one observer makes of one member: how long it has given no sign of life. A pure decision: time is an argument.
//!
//! Two questions are asked: the member's agent, at every interval, and its Patroni once two looks at the agent have gone
//! unanswered. An answer to either, however late, is a sign of life and begins everything anew: so a machine that is
//! slow, an agent that is being restarted and a Patroni that hangs are none of them suspect on their own.

use std::time::Duration;

/// A moment: the time since some beginning that the caller chose.
pub(crate) type Moment = Duration;

/// After how many looks, how far apart, a silent member is suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    pub(crate) interval: Duration,
    pub(crate) misses: u8,
}

/// Looks at the agent that may go unanswered before Patroni is asked too: one is lost on any bad network.
const DOUBTS: u8 = 2;

impl Patience {
    /// How long a member is silent before it is suspect.
    pub(crate) fn limit(self) -> Duration {
        self.interval * u32::from(self.misses)
    }
}

/// What is known of one member.
#[derive(Debug, Clone, Default)]
pub(crate) struct Suspicion {
    /// The last sign of life.
    heard: Option<Moment>,
    /// When the first look was sent that nothing has been heard since, and how many were.
    unanswered: Option<(Moment, u8)>,
    /// When Patroni was first asked since the last sign of life.
    asked_patroni: Option<Moment>,
    /// Since when there has been no doubt.
    well_since: Option<Moment>,
    /// Whether it was given up since the last sign of life.
    given_up: bool,
}

impl Suspicion {
    /// The member's agent was looked at.
    pub(crate) fn looked(&mut self, now: Moment) {
        let (since, looks) = self.unanswered.unwrap_or((now, 0));
        let looks = looks.saturating_add(1);
        self.unanswered = Some((since, looks));
        if looks > DOUBTS {
            self.well_since = None;
        }
    }

    /// The member's Patroni was asked.
    pub(crate) fn asked_patroni(&mut self, now: Moment) {
        self.asked_patroni.get_or_insert(now);
    }

    /// Either of them answered.
    pub(crate) fn heard(&mut self, now: Moment) {
        self.heard = Some(now);
        self.unanswered = None;
        self.asked_patroni = None;
        self.given_up = false;
        self.well_since.get_or_insert(now);
    }

    /// The member was given up: should it lead again, it is alive, and nobody has an opinion of it until it was heard.
    pub(crate) fn given_up(&mut self) {
        self.given_up = true;
    }

    /// Whether there is reason to give it up, and it was not done already.
    pub(crate) fn is_to_be_given_up(&self, patience: Patience, now: Moment) -> bool {
        !self.given_up && self.is_suspect(patience, now)
    }

    /// When nothing has been heard since, if looks have gone unanswered.
    pub(crate) fn silent_since(&self) -> Option<Moment> {
        self.unanswered.map(|(since, _)| since)
    }

    /// Whether something was heard at this moment or after it.
    pub(crate) fn heard_since(&self, then: Moment) -> bool {
        self.heard.is_some_and(|heard| heard >= then)
    }

    /// Whether Patroni is to be asked too.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.unanswered.is_some_and(|(_, looks)| looks >= DOUBTS)
    }

    /// Whether the member is suspect: heard before, and since then silent for as many looks as the patience has, with
    /// Patroni asked for what remained of them after the first doubt.
    pub(crate) fn is_suspect(&self, patience: Patience, now: Moment) -> bool {
        let Some((since, looks)) = self.unanswered else { return false };
        let left = u32::from(patience.misses.saturating_sub(DOUBTS).max(1));
        let patroni_had_time = self
            .asked_patroni
            .is_some_and(|asked| now.saturating_sub(asked) >= patience.interval * left);
        self.heard.is_some()
            && looks >= patience.misses
            && now.saturating_sub(since) >= patience.limit()
            && patroni_had_time
    }

    /// Whether the member has answered without a doubt for as long as it takes to suspect it.
    pub(crate) fn is_well(&self, patience: Patience, now: Moment) -> bool {
        self.well_since.is_some_and(|since| now.saturating_sub(since) >= patience.limit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { interval: Duration::from_millis(100), misses: 5 };

    fn at(millis: u64) -> Moment {
        Duration::from_millis(millis)
    }

    /// A member heard at 0, then looked at every interval, with Patroni asked as soon as there is a doubt.
    fn silent_until(millis: u64) -> Suspicion {
        let mut member = Suspicion::default();
        member.heard(at(0));
        for now in (100..=millis).step_by(100) {
            member.looked(at(now));
            if member.is_doubtful() {
                member.asked_patroni(at(now));
            }
        }
        member
    }

    #[test]
    fn a_member_is_suspect_after_as_many_misses_as_patience_has_and_not_before() {
        assert!(!silent_until(500).is_suspect(PATIENCE, at(599)));
        assert!(silent_until(500).is_suspect(PATIENCE, at(600)));
    }

    #[test]
    fn a_late_answer_clears_every_doubt() {
        let mut member = silent_until(500);
        member.heard(at(590));
        assert!(!member.is_suspect(PATIENCE, at(600)));
        assert!(!member.is_doubtful());
    }

    #[test]
    fn an_observer_that_was_paused_looks_again_before_it_suspects() {
        let mut member = silent_until(200);
        // Five seconds without a look are the observer's own.
        assert!(!member.is_suspect(PATIENCE, at(5_200)));
        member.looked(at(5_200));
        member.asked_patroni(at(5_200));
        assert!(!member.is_suspect(PATIENCE, at(5_300)));
    }

    #[test]
    fn a_member_is_given_up_once_and_again_only_after_it_was_heard() {
        let mut member = silent_until(600);
        assert!(member.is_to_be_given_up(PATIENCE, at(700)));
        member.given_up();
        assert!(member.is_suspect(PATIENCE, at(700)));
        assert!(!member.is_to_be_given_up(PATIENCE, at(60_000)));
        member.heard(at(60_001));
        for now in (60_100..=60_600).step_by(100) {
            member.looked(at(now));
            member.asked_patroni(at(now));
        }
        assert!(member.is_to_be_given_up(PATIENCE, at(60_700)));
    }

    #[test]
    fn nobody_suspects_a_member_never_heard_of() {
        let mut member = Suspicion::default();
        for now in (0..60_000).step_by(100) {
            member.looked(at(now));
            member.asked_patroni(at(now));
        }
        assert!(!member.is_suspect(PATIENCE, at(60_000)));
    }

    #[test]
    fn a_silent_agent_alone_is_not_suspect_while_patroni_was_not_asked() {
        let mut member = Suspicion::default();
        member.heard(at(0));
        for now in (100..3_000).step_by(100) {
            member.looked(at(now));
        }
        assert!(!member.is_suspect(PATIENCE, at(3_000)));
    }

    #[test]
    fn coming_back_takes_as_long_as_going() {
        let mut member = silent_until(600);
        member.heard(at(700));
        assert!(!member.is_well(PATIENCE, at(1_100)));
        for now in (800..=1_200).step_by(100) {
            member.looked(at(now));
            member.heard(at(now + 1));
        }
        assert!(member.is_well(PATIENCE, at(1_200)));
        assert!(!silent_until(400).is_well(PATIENCE, at(400)));
    }
}
