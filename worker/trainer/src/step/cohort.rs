//! Students that learn from the same batches: the teacher looks at each batch once for all of them.

use super::{Error, Learner, Lesson, Losses, Moment, Part, State, StudentLearner};
use crate::model::{Mode, Network};

/// One student or several, and the teacher that they share. One whose training diverges learns no more; the others go on.
pub struct Cohort<'a, 'n> {
    teacher: Option<&'n Network>,
    members: Vec<&'n mut StudentLearner<'a>>,
    /// By member: whether it diverged.
    diverged: Vec<bool>,
}

impl<'a, 'n> Cohort<'a, 'n> {
    /// `teacher` is needed where gamma2 is not 0; there must be a member.
    pub fn new(teacher: Option<&'n Network>, members: Vec<&'n mut StudentLearner<'a>>) -> Self {
        let diverged = vec![false; members.len()];
        Self {
            teacher,
            members,
            diverged,
        }
    }
}

impl Learner for Cohort<'_, '_> {
    fn step(&mut self, part: Part<'_>, at: Moment) -> Result<Losses, Error> {
        let taught = self
            .teacher
            .map(|teacher| tch::no_grad(|| teacher.forward(part.images, Mode::EVALUATE)))
            .transpose()?;
        let lesson = taught
            .as_ref()
            .zip(self.members.first())
            .map(|(taught, member)| Lesson::new(taught, member.gang()));
        let mut all = Vec::new();
        let mut last = None;
        for (member, diverged) in self.members.iter_mut().zip(&mut self.diverged) {
            if *diverged {
                continue;
            }
            match member.step(part, lesson.as_ref(), at) {
                Ok(losses) => all.push(losses),
                Err(error @ Error::Diverged { .. }) => {
                    *diverged = true;
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match last {
            Some(error) if all.is_empty() => Err(error),
            _ => Ok(mean(&all)),
        }
    }

    fn exchange_averages(&mut self) -> Result<(), Error> {
        let mut members = self.members.iter_mut();
        members.try_for_each(|member| member.exchange_averages())
    }

    fn keep_averages(&mut self) -> Result<(), Error> {
        let mut members = self.members.iter_mut();
        members.try_for_each(|member| member.keep_averages())
    }

    fn networks(&self) -> Vec<&Network> {
        self.members.iter().map(|member| member.network()).collect()
    }

    fn state(&self) -> Result<State, Error> {
        let mut state = State::default();
        for (number, member) in self.members.iter().enumerate() {
            state.add(&number.to_string(), member.state()?);
        }
        Ok(state)
    }

    fn restore(&mut self, state: &State, steps: u64) -> Result<(), Error> {
        for (number, member) in self.members.iter_mut().enumerate() {
            member.restore(&state.under(&number.to_string()), steps)?;
        }
        Ok(())
    }
}

fn mean(all: &[Losses]) -> Losses {
    let share = 1.0 / all.len().max(1) as f64;
    let of = |field: fn(&Losses) -> f64| all.iter().map(|losses| share * field(losses)).sum();
    Losses {
        total: of(|losses| losses.total),
        cross_entropy: of(|losses| losses.cross_entropy),
        hint: of(|losses| losses.hint),
        complexity: of(|losses| losses.complexity),
    }
}
