//! The stored form of a model.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::cause::CauseShare;
use super::cursor::Cursor;
use super::expert::{Base, EXPERTS, Expert};
use super::fair::Fair;
use super::group::Group;
use super::model::{Annotator, ITEMS_MAX, Item};
use super::{ReliabilityError, ReliabilityModel};

/// The version of the format. Version 1 knew no groups and no difficulty; it is refused, and the
/// model is rebuilt from the log.
const VERSION: u32 = 2;

/// The format of a checkpoint.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    version: u32,
    classes: Vec<String>,
    open: bool,
    annotators: Vec<Annotator>,
    groups: Vec<Group>,
    experts: Vec<Expert>,
    base: Vec<Base>,
    causes: CauseShare,
    fair: Fair,
    items: Vec<(u64, Item)>,
    closed: VecDeque<u64>,
    next_item: u64,
    position: u64,
    refit_at: u64,
    cursor: Option<Cursor>,
}

impl From<ReliabilityModel> for Stored {
    fn from(model: ReliabilityModel) -> Self {
        Self {
            version: VERSION,
            classes: model.classes,
            open: model.open,
            annotators: model.annotators,
            groups: model.groups,
            experts: model.experts,
            base: model.base,
            causes: model.causes,
            fair: model.fair,
            items: model.items.into_iter().collect(),
            closed: model.closed,
            next_item: model.next_item,
            position: model.position,
            refit_at: model.refit_at,
            cursor: model.cursor,
        }
    }
}

impl TryFrom<Stored> for ReliabilityModel {
    type Error = ReliabilityError;

    fn try_from(stored: Stored) -> Result<Self, ReliabilityError> {
        let (classes, annotators) = (stored.classes.len(), stored.annotators.len());
        let item_fits = |(id, item): &(u64, Item)| {
            *id < stored.next_item
                && item.gold.is_none_or(|gold| gold < classes)
                && item.probabilities.len() == EXPERTS
                && item
                    .shares
                    .iter()
                    .all(|share| share.group < stored.groups.len())
                && item.probabilities.iter().all(|row| row.len() <= classes)
                && item
                    .votes
                    .iter()
                    .all(|vote| vote.annotator < annotators && vote.class < classes)
        };
        let class_ids: BTreeMap<String, usize> = stored.classes.iter().cloned().zip(0..).collect();
        let annotator_ids: BTreeMap<String, usize> = stored
            .annotators
            .iter()
            .map(|one| one.name.clone())
            .zip(0..)
            .collect();
        let item_ids: BTreeMap<String, u64> = stored
            .items
            .iter()
            .map(|(id, item)| (item.name.clone(), *id))
            .collect();
        let fits = stored.version == VERSION
            && class_ids.len() == classes
            && annotator_ids.len() == annotators
            && item_ids.len() == stored.items.len()
            && stored.experts.len() == EXPERTS
            && stored.experts.iter().all(|expert| expert.fits(classes))
            && stored.base.len() == EXPERTS
            && stored.base.iter().all(|base| base.fits(classes))
            && stored.items.iter().all(item_fits)
            && stored.causes.is_finite()
            && stored.groups.iter().all(Group::is_finite)
            && stored
                .annotators
                .iter()
                .all(|one| one.group.is_none_or(|group| group < stored.groups.len()))
            && stored.fair.fits(classes, annotators);
        if !fits {
            return Err(ReliabilityError::MalformedCheckpoint);
        }
        let labels_within_reach = stored
            .items
            .iter()
            .map(|(_, item)| item.votes.len() as u64)
            .sum();
        Ok(Self {
            classes: stored.classes,
            class_ids,
            open: stored.open,
            annotators: stored.annotators,
            groups: stored.groups,
            annotator_ids,
            experts: stored.experts,
            base: stored.base,
            causes: stored.causes,
            fair: stored.fair,
            items: stored.items.into_iter().collect(),
            item_ids,
            closed: stored.closed,
            next_item: stored.next_item,
            labels_within_reach,
            position: stored.position,
            refit_at: stored.refit_at,
            cursor: stored.cursor,
            items_max: ITEMS_MAX,
        })
    }
}
