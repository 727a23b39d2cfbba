//! The dead queue, as jobs read it.

use std::sync::Arc;

use async_trait::async_trait;
use glyph_worker::{
    broker::BrokerError,
    dead_letters::{
        Chosen, DeadLetter, DeadLetters, Handles, KeepError, Letter, LetterStore, Visit, Visitor,
    },
};

use super::process::Process;

pub(crate) struct SimulatedLetters(pub(crate) Arc<Process>);

#[async_trait]
impl DeadLetters for SimulatedLetters {
    async fn visit(&self, visitor: Visitor<'_>) -> Result<usize, BrokerError> {
        self.0.step("visits the dead queue").await;
        let (mut handles, mut removed) = (Handles::default(), 0);
        let letters = self.0.world.state().broker.letters();
        for (number, letter) in letters {
            match visitor(&handles.of(&letter), &letter) {
                Visit::Leave => {}
                Visit::Remove => {
                    self.0.world.state().broker.take_letter(number);
                    removed += 1;
                }
                Visit::End => break,
            }
        }
        Ok(removed)
    }

    async fn set_aside(&self, _: usize) -> Result<Vec<DeadLetter>, BrokerError> {
        Ok(Vec::new())
    }

    async fn take(
        &self,
        chosen: Chosen<'_>,
        keeper: &mut dyn LetterStore,
    ) -> Result<usize, BrokerError> {
        self.0.step("takes dead letters").await;
        let mut handles = Handles::default();
        let mut letters = self.0.world.state().broker.letters();
        letters.retain(|(_, letter)| chosen(&handles.of(letter), letter));
        let (numbers, page): (Vec<u64>, Vec<Letter>) = letters.into_iter().unzip();
        if page.is_empty() {
            return Ok(0);
        }
        keeper.keep(page).await.map_err(unreachable)?;
        self.0.step(format!("acks letters {numbers:?}")).await;
        let world = &self.0.world;
        let arrived = {
            let state = &mut *world.state();
            // A cut loses the acks that have not arrived.
            if state.strikes("lost acks of letters", world.plan.faults.confirms_lost) {
                state.random.index(numbers.len())
            } else {
                numbers.len()
            }
        };
        for number in &numbers[..arrived] {
            world.state().broker.take_letter(*number);
        }
        if arrived < numbers.len() {
            return Err(unreachable("a cut".into()));
        }
        keeper.removed().await.map_err(unreachable)?;
        Ok(numbers.len())
    }

    async fn replace(&self, _: &str, _: Letter) -> Result<bool, BrokerError> {
        Ok(false)
    }
}

fn unreachable(source: KeepError) -> BrokerError {
    BrokerError::Unreachable {
        address: "the simulated broker".to_owned(),
        source,
    }
}
