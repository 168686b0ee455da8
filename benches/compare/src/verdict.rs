//! What a damaged store comes to, from what the process that read it has told.

/// What a child tells, step by step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The store does not open.
    Refused,
    /// It is open.
    Opened,
    /// A key has its value.
    Right,
    /// A key answered with an error.
    Failed,
    /// The store says that there is no such key.
    Missing,
    /// A key has another value.
    Wrong,
    /// The store is closed, and the child done.
    Closed,
}

const LETTERS: [(Step, u8); 7] = [
    (Step::Refused, b'x'),
    (Step::Opened, b'o'),
    (Step::Right, b'r'),
    (Step::Failed, b'e'),
    (Step::Missing, b'm'),
    (Step::Wrong, b'w'),
    (Step::Closed, b'c'),
];

impl Step {
    /// Its letter between processes.
    pub fn letter(self) -> u8 {
        LETTERS.iter().find(|(step, _)| *step == self).map_or(b'?', |(_, letter)| *letter)
    }

    /// The step of a letter.
    pub fn of_letter(letter: u8) -> Option<Step> {
        LETTERS.iter().find(|(_, of_step)| *of_step == letter).map(|(step, _)| *step)
    }
}

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Of itself.
    Exited,
    /// By a signal, or by a panic or the like.
    Crashed(Option<i32>),
    /// It was killed after too long a time.
    Hung,
}

/// What came of one damage, from good to bad: the worst that was seen counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// Every key has its value.
    Right,
    /// Some keys answered with an error, the others were right.
    SomeRefused,
    /// The store did not open.
    StoreRefused,
    /// No answer came.
    Hung,
    /// The process died.
    Crashed,
    /// A key was not there, and nobody said so.
    Missing,
    /// A key had another value.
    Wrong,
}

impl Verdict {
    /// All of them, in the order of the table.
    pub const ALL: [Verdict; 7] = [
        Verdict::Right,
        Verdict::SomeRefused,
        Verdict::StoreRefused,
        Verdict::Missing,
        Verdict::Wrong,
        Verdict::Crashed,
        Verdict::Hung,
    ];

    /// Its column.
    pub fn heading(self) -> &'static str {
        match self {
            Verdict::Right => "all right",
            Verdict::SomeRefused => "some keys refused",
            Verdict::StoreRefused => "open refused",
            Verdict::Hung => "hung",
            Verdict::Crashed => "crashed",
            Verdict::Missing => "missing",
            Verdict::Wrong => "**wrong**",
        }
    }

    /// Whether nobody was told of what was lost, or nothing was told at all.
    pub fn is_bad(self) -> bool {
        self >= Verdict::Hung
    }
}

/// The verdict on a store that should have so many keys.
pub fn judge(steps: &[Step], ended: Ended, keys: usize) -> Verdict {
    let seen = |step: Step| steps.contains(&step);
    let answers = [Step::Right, Step::Failed, Step::Missing, Step::Wrong];
    let answered = steps.iter().filter(|step| answers.contains(step)).count();
    if seen(Step::Wrong) {
        return Verdict::Wrong;
    }
    if seen(Step::Missing) {
        return Verdict::Missing;
    }
    match ended {
        Ended::Hung => Verdict::Hung,
        Ended::Crashed(_) => Verdict::Crashed,
        Ended::Exited if seen(Step::Refused) => Verdict::StoreRefused,
        // It ended of itself, and not where it should have.
        Ended::Exited if answered < keys || !seen(Step::Closed) => Verdict::Crashed,
        Ended::Exited if seen(Step::Failed) => Verdict::SomeRefused,
        Ended::Exited => Verdict::Right,
    }
}

/// Keys that answered with an error.
pub fn refused(steps: &[Step]) -> usize {
    steps.iter().filter(|step| **step == Step::Failed).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(told: &str, ended: Ended) -> Verdict {
        let steps: Vec<Step> = told.bytes().map(|byte| Step::of_letter(byte).unwrap()).collect();
        judge(&steps, ended, 2)
    }

    #[test]
    fn the_worst_that_was_seen_counts() {
        let crashed = Ended::Crashed(Some(11));
        for (told, ended, verdict) in [
            ("orrc", Ended::Exited, Verdict::Right),
            ("oerc", Ended::Exited, Verdict::SomeRefused),
            ("x", Ended::Exited, Verdict::StoreRefused),
            ("oemc", Ended::Exited, Verdict::Missing),
            ("omwc", Ended::Exited, Verdict::Wrong),
            ("or", crashed, Verdict::Crashed),
            ("om", crashed, Verdict::Missing),
            ("ow", crashed, Verdict::Wrong),
            ("or", Ended::Hung, Verdict::Hung),
            ("", Ended::Hung, Verdict::Hung),
            ("", crashed, Verdict::Crashed),
            ("or", Ended::Exited, Verdict::Crashed),
            ("orr", Ended::Exited, Verdict::Crashed),
        ] {
            assert_eq!(of(told, ended), verdict, "{told} {ended:?}");
        }
    }

    #[test]
    fn every_step_has_its_letter() {
        for (step, letter) in LETTERS {
            assert_eq!(step.letter(), letter);
            assert_eq!(Step::of_letter(letter), Some(step));
        }
        assert_eq!(Step::of_letter(b'?'), None);
    }
}
