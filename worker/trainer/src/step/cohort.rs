//! Students that learn from the same batches: the teacher looks at each batch once for all of them.

use super::{Error, Learner, Lesson, Losses, Moment, Part, State, StudentLearner};
use crate::model::{Mode, Network};

/// One student or several, and the teacher that they share.
pub struct Cohort<'a, 'n> {
    teacher: Option<&'n Network>,
    members: Vec<&'n mut StudentLearner<'a>>,
}

impl<'a, 'n> Cohort<'a, 'n> {
    /// `teacher` is needed where gamma2 is not 0; there must be a member.
    pub fn new(teacher: Option<&'n Network>, members: Vec<&'n mut StudentLearner<'a>>) -> Self {
        Self { teacher, members }
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
        let mut mean = Losses::default();
        let share = 1.0 / self.members.len() as f64;
        for member in &mut self.members {
            let losses = member.step(part, lesson.as_ref(), at)?;
            mean.total += share * losses.total;
            mean.cross_entropy += share * losses.cross_entropy;
            mean.hint += share * losses.hint;
            mean.complexity += share * losses.complexity;
        }
        Ok(mean)
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
