//! Lists of regions: what spans, segments, boxes and polygons share.

use std::{
    cell::Cell,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::{Map, Value, json};

use super::{Found, How, Kind, Values, boxes, polygons, segments, spans};
use crate::{
    answer::{
        ballot::{Ballot, Candidate, equal, exceeds},
        error::{AnswerError, Problem, kind_of, shown},
        form::{Exact, Form, most_written},
        reader::Reader,
        value::{Answer, Parts},
        work::{TooMuch, Work},
    },
    config::{AgreementMethod, AnswerKind, BoxFormat, Metric},
    consensus::{Limits, MATCH_PAIRS_MAX, pair_counting},
};

/// A list of regions with a class (`tag`) each.
///
/// # Similarity
///
/// Regions of two people are paired one to one so that the sum of their overlaps (intersection over
/// union, IoU) is the largest; only regions of one tag, and with equal values under the keys of
/// `compare`, can be a pair. With *m* pairs of overlaps *o*:
///
/// ```text
/// F1 = 2 m / (|a| + |b|)                       pairs with IoU >= min_iou
/// mean IoU = sum of o / (|a| + |b| - m)        pairs with IoU > 0; what is not matched counts 0
/// ```
///
/// Two empty lists are alike (1).
///
/// Kuhn, H. W. (1955). The Hungarian method for the assignment problem. *Naval Research Logistics
/// Quarterly* 2, 83-97.
///
/// # Uniting
///
/// Every two people are matched so, with `min_iou`. Pairs join groups, the best overlap first, of which
/// each person has one region at most and whose members are all the same region as one of them. A group
/// that more than half of the people (or of their weight) have is one region of the value: the place of
/// its medoid (of equal ones the first in order), and under each other key the value that most of its
/// people gave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Regions {
    pub(crate) outline: Outline,
    /// Key of the class.
    pub(crate) tag: String,
    /// Possible classes.
    pub(crate) values: Option<Values>,
    /// Keys that must be equal, too.
    pub(crate) compare: Vec<String>,
    pub(crate) min_iou: f64,
}

/// What kind of region.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outline {
    /// Whole code points, inside the text at this path where one is named.
    Spans(Option<String>),
    Segments,
    Boxes(BoxFormat),
    Polygons,
}

/// Where a region is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    Stretch { start: f64, end: f64 },
    Rectangle(boxes::Rectangle),
    Polygon(polygons::Polygon),
}

/// A region of one person.
#[derive(Clone, Debug)]
pub(in crate::answer) struct Region {
    place: Place,
    /// Coordinates in their order, then tag and compared keys: what makes it the same region. Regions
    /// are sorted by it.
    key: Key,
    /// As given.
    json: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    coordinates: Vec<Exact>,
    /// Tag, then the keys of `compare`; null where there is none.
    class: Vec<Form>,
}

/// Keys under which other tools keep the class of a region.
const OTHER_TAGS: [&str; 5] = ["tag", "label", "labels", "class", "category"];

impl Outline {
    /// What people call one of them.
    fn noun(&self) -> &'static str {
        match self {
            Self::Spans(_) => "span",
            Self::Segments => "segment",
            Self::Boxes(_) => "box",
            Self::Polygons => "polygon",
        }
    }

    fn name(&self) -> AnswerKind {
        match self {
            Self::Spans(_) => AnswerKind::Spans,
            Self::Segments => AnswerKind::Segments,
            Self::Boxes(_) => AnswerKind::Boxes,
            Self::Polygons => AnswerKind::Polygons,
        }
    }

    /// The keys that say where it is.
    pub(crate) fn keys(&self) -> &'static [&'static str] {
        match self {
            Self::Spans(_) | Self::Segments => &["start", "end"],
            Self::Boxes(BoxFormat::Xyxy) => &["x1", "y1", "x2", "y2"],
            Self::Boxes(BoxFormat::Xywh) => &["x", "y", "width", "height"],
            Self::Polygons => &["points"],
        }
    }

    fn read(
        &self,
        region: &Map<String, Value>,
        reader: &mut Reader<'_>,
    ) -> Result<(Place, Vec<Exact>), AnswerError> {
        match self {
            Self::Spans(_) => spans::read(region, reader),
            Self::Segments => segments::read(region, reader),
            Self::Boxes(format) => boxes::read(*format, region, reader),
            Self::Polygons => polygons::read(region, reader),
        }
    }

    fn schema(&self) -> Map<String, Value> {
        match self {
            Self::Spans(_) => spans::schema(),
            Self::Segments => segments::schema(),
            Self::Boxes(format) => boxes::schema(*format),
            Self::Polygons => polygons::schema(),
        }
    }
}

impl Place {
    /// Its stretch along the first axis: regions whose stretches do not meet need no comparison.
    fn extent(&self) -> (f64, f64) {
        match self {
            Self::Stretch { start, end } => (*start, *end),
            Self::Rectangle(rectangle) => rectangle.extent(),
            Self::Polygon(polygon) => polygon.extent(),
        }
    }

    /// Steps that an overlap with another takes.
    fn cost(&self, other: &Self) -> u64 {
        match (self, other) {
            (Self::Polygon(a), Self::Polygon(b)) => a.cost(b),
            _ => 1,
        }
    }

    /// Intersection over union: the same in both directions, 1 for equal places.
    fn iou(&self, other: &Self) -> f64 {
        match (self, other) {
            (Self::Stretch { start, end }, Self::Stretch { start: s, end: e }) => {
                segments::iou((*start, *end), (*s, *e))
            }
            (Self::Rectangle(a), Self::Rectangle(b)) => boxes::iou(a, b),
            (Self::Polygon(a), Self::Polygon(b)) => polygons::iou(a, b),
            _ => 0.0,
        }
    }
}

impl Region {
    /// Overlap of two that can be the same region.
    fn overlap(&self, other: &Self) -> f64 {
        if self.key.class == other.key.class {
            self.place.iou(&other.place)
        } else {
            0.0
        }
    }
}

impl Regions {
    fn region(&self, value: &Value, reader: &mut Reader<'_>) -> Result<Region, AnswerError> {
        let noun = self.outline.noun();
        let Value::Object(entries) = value else {
            let keys: Vec<_> = self
                .outline
                .keys()
                .iter()
                .map(|k| format!("`{k}`"))
                .collect();
            return Err(reader.wrong(Problem::Unfit {
                found: kind_of(value).to_owned(),
                expected: noun,
                hint: Some(format!("give an object with the keys {}", keys.join(", "))),
            }));
        };
        let (place, coordinates) = self.outline.read(entries, reader)?;
        if let (Outline::Spans(Some(path)), Place::Stretch { end, .. }) = (&self.outline, &place) {
            Self::inside_text(path, *end, reader)?;
        }
        let mut class = vec![self.read_tag(entries, reader)?];
        let compared = |key: &String| entries.get(key).map_or(Form::Null, Form::of);
        class.extend(self.compare.iter().map(compared));
        Ok(Region {
            place,
            key: Key { coordinates, class },
            json: value.clone(),
        })
    }

    fn inside_text(path: &str, end: f64, reader: &Reader<'_>) -> Result<(), AnswerError> {
        let Some(length) = Self::text_length(path, reader) else {
            return Ok(());
        };
        if end > length as f64 {
            return Err(reader.wrong(Problem::OutsideText {
                end: end.to_string(),
                length,
            }));
        }
        Ok(())
    }

    /// Code points of the text; none where the task has no such text, which is not the annotator's
    /// fault.
    fn text_length(path: &str, reader: &Reader<'_>) -> Option<usize> {
        let path = path.strip_prefix("$.").unwrap_or(path);
        let (root, rest) = path
            .split_once('.')
            .map_or((path, None), |(a, b)| (a, Some(b)));
        let root = match root {
            "input" => reader.input,
            "annotation" => reader.data,
            _ => return None,
        };
        let text = crate::answer::value_at(root, rest)?.as_str()?;
        Some(text.chars().count())
    }

    fn read_tag(
        &self,
        entries: &Map<String, Value>,
        reader: &mut Reader<'_>,
    ) -> Result<Form, AnswerError> {
        let noun = self.outline.noun();
        let given = entries.get(&self.tag).filter(|tag| !tag.is_null());
        let Some(tag) = given else {
            let looks_like_one = |key: &&String| {
                let plain = key.to_lowercase();
                *key != &self.tag
                    && !self.compare.contains(key)
                    && (OTHER_TAGS.contains(&plain.as_str()) || plain == self.tag.to_lowercase())
            };
            if let Some(key) = entries.keys().filter(looks_like_one).min() {
                return Err(reader.wrong(Problem::OtherTag {
                    region: noun,
                    tag: self.tag.clone(),
                    key: key.clone(),
                }));
            }
            if let Some(values) = &self.values {
                let problem = Problem::Unknown {
                    given: format!("a {noun} without `{}`", self.tag),
                    known: crate::answer::error::listed(values.list().iter()),
                    hint: None,
                };
                return Err(reader.wrong(problem));
            }
            return Ok(Form::Null);
        };
        reader.at_key(&self.tag, |reader| {
            if tag.is_array() || tag.is_object() {
                return Err(reader.wrong(Problem::Unfit {
                    found: kind_of(tag).to_owned(),
                    expected: "class of a region",
                    hint: Some("give one text; what has two classes is two regions".to_owned()),
                }));
            }
            match &self.values {
                Some(values) => values.check(tag).map_err(|problem| reader.wrong(problem)),
                None => Ok(Form::of(tag)),
            }
        })
    }

    /// Pairs of the best matching, as positions in two sorted lists, with their overlap.
    fn matched(
        a: &[Region],
        b: &[Region],
        min_iou: f64,
        work: &mut Work,
    ) -> Result<Vec<(usize, usize, f64)>, TooMuch> {
        work.spend(8 * (a.len() as u64 + b.len() as u64))?;
        let extents = |regions: &[Region]| -> Vec<Option<(f64, f64)>> {
            regions
                .iter()
                .map(|region| Some(region.place.extent()))
                .collect()
        };
        // What overlapping polygons cost shows only when they are looked at.
        let left = Cell::new(work.left());
        let overlap = |i: usize, j: usize| {
            let (a, b) = (&a[i], &b[j]);
            if a.key.class != b.key.class {
                return 0.0;
            }
            let rest = left.get().checked_sub(a.place.cost(&b.place));
            left.set(rest.unwrap_or(0));
            rest.map_or(0.0, |_| a.place.iou(&b.place))
        };
        let limits = Limits {
            pairs: u128::from(work.left() / 8).min(MATCH_PAIRS_MAX),
            steps: u128::from(work.left()),
        };
        let pairs = pair_counting(
            &extents(a),
            &extents(b),
            min_iou,
            overlap,
            |_, _| false,
            limits,
        );
        let Ok((matches, steps)) = pairs else {
            work.spend(u64::MAX)?;
            return Err(work.too_much());
        };
        let overlaps = work.left() - left.get();
        work.spend(overlaps.saturating_add(u64::try_from(steps).unwrap_or(u64::MAX)))?;
        if left.get() == 0 {
            return Err(work.too_much());
        }
        Ok(matches)
    }

    /// What everybody marked, group by group.
    fn groups(&self, ballot: &Ballot<'_>, work: &mut Work) -> Result<Vec<Group>, TooMuch> {
        let lists: Vec<&[Region]> = ballot
            .candidates
            .iter()
            .map(|candidate| candidate.answer().regions())
            .collect();
        // Nodes are numbered by candidate and region, both sorted: nothing depends on who came first.
        let mut first = Vec::with_capacity(lists.len());
        let mut nodes: Vec<Node> = Vec::new();
        for (candidate, list) in lists.iter().enumerate() {
            first.push(nodes.len());
            nodes.extend((0..list.len()).map(|region| Node { candidate, region }));
        }
        let mut edges: Vec<(f64, usize, usize)> = Vec::new();
        for (i, a) in lists.iter().enumerate() {
            for (j, b) in lists.iter().enumerate().skip(i + 1) {
                let matches = Self::matched(a, b, self.min_iou, work)?;
                // An edge takes memory beside time.
                work.spend(32 * matches.len() as u64)?;
                let edge = |(x, y, iou)| (iou, first[i] + x, first[j] + y);
                edges.extend(matches.into_iter().map(edge));
            }
        }
        edges.sort_by(|a, b| {
            let better = b.0.total_cmp(&a.0);
            better.then_with(|| (a.1, a.2).cmp(&(b.1, b.2)))
        });
        let region = |node: usize| &lists[nodes[node].candidate][nodes[node].region];
        let mut group_of: Vec<usize> = (0..nodes.len()).collect();
        let mut groups: Vec<Group> = nodes
            .iter()
            .enumerate()
            .map(|(node, place)| Group {
                nodes: vec![node],
                candidates: BTreeSet::from([place.candidate]),
                centres: vec![node],
                members: Vec::new(),
            })
            .collect();
        for (_, a, b) in edges {
            let (mut a, mut b) = (group_of[a], group_of[b]);
            if a == b || !groups[a].candidates.is_disjoint(&groups[b].candidates) {
                continue;
            }
            // The smaller one moves.
            if groups[a].nodes.len() < groups[b].nodes.len() {
                (a, b) = (b, a);
            }
            let mut centres = Vec::new();
            for (own, other) in [(a, b), (b, a)] {
                for &centre in &groups[own].centres {
                    let mut all = true;
                    for &node in &groups[other].nodes {
                        let (centre, node) = (region(centre), region(node));
                        work.spend(1 + centre.place.cost(&node.place))?;
                        if centre.overlap(node) < self.min_iou {
                            all = false;
                            break;
                        }
                    }
                    if all {
                        centres.push(centre);
                    }
                }
            }
            if centres.is_empty() {
                continue;
            }
            let moved = std::mem::take(&mut groups[b]);
            for &node in &moved.nodes {
                group_of[node] = a;
            }
            groups[a].nodes.extend(moved.nodes);
            groups[a].candidates.extend(moved.candidates);
            groups[a].centres = centres;
        }
        groups.retain(|group| !group.nodes.is_empty());
        for group in &mut groups {
            group.nodes.sort_unstable();
        }
        // From numbers of nodes to places.
        Ok(groups
            .into_iter()
            .map(|mut group| {
                group.members = group.nodes.iter().map(|node| nodes[*node]).collect();
                group
            })
            .collect())
    }

    /// The one region of a group.
    fn region_of(
        &self,
        group: &[Node],
        ballot: &Ballot<'_>,
        how: How,
        work: &mut Work,
    ) -> Result<Marked, TooMuch> {
        let strengths = ballot.strengths(how.weighted);
        let region =
            |node: &Node| &ballot.candidates[node.candidate].answer().regions()[node.region];
        let mut medoid: Option<(f64, &Node)> = None;
        for one in group {
            let mut likeness = strengths[one.candidate];
            for other in group.iter().filter(|other| *other != one) {
                let (a, b) = (region(one), region(other));
                work.spend(1 + a.place.cost(&b.place))?;
                likeness += strengths[other.candidate] * a.overlap(b);
            }
            let better = medoid.is_none_or(|(best, node)| {
                let first = region(one).key < region(node).key;
                likeness > best && !equal(likeness, best) || equal(likeness, best) && first
            });
            if better {
                medoid = Some((likeness, one));
            }
        }
        let (_, medoid) = medoid.unwrap_or((0.0, &group[0]));
        // Everybody's own way of writing it, with what they weigh.
        let strength = ballot.strength(how.weighted);
        let given = |node: &Node| {
            let members = ballot.candidates[node.candidate].members.iter();
            let index = node.region;
            members.filter_map(move |m| Some((m, m.answer.regions().get(index)?.json.as_object()?)))
        };
        let mut all = Vec::new();
        for node in group {
            for (member, region) in given(node) {
                work.spend(8 * (1 + region.len() as u64))?;
                all.push((*node == *medoid, strength(member), region));
            }
        }
        let mut base: Vec<Value> = Vec::new();
        for (_, _, region) in all.iter().filter(|(of_medoid, ..)| *of_medoid) {
            let own = region.iter().filter(|(key, _)| self.is_own_key(key));
            base.push(Value::Object(
                own.map(|(k, v)| (k.clone(), v.clone())).collect(),
            ));
        }
        let mut value = match most_written(&base) {
            Value::Object(entries) => entries,
            _ => Map::new(),
        };
        let keys: BTreeSet<&String> = all
            .iter()
            .flat_map(|(_, _, region)| region.keys())
            .filter(|key| !self.is_own_key(key))
            .collect();
        for key in keys {
            let votes = all
                .iter()
                .map(|(of_medoid, strength, region)| (*of_medoid, *strength, region.get(key)));
            if let Some(attribute) = most_frequent(votes) {
                value.insert(key.clone(), attribute);
            }
        }
        let held = group.iter().map(|node| strengths[node.candidate]).sum();
        Ok(Marked {
            key: region(medoid).key.clone(),
            held,
            value: Value::Object(value),
        })
    }

    /// Whether a key says where or what a region is; others are attributes.
    fn is_own_key(&self, key: &str) -> bool {
        self.outline.keys().contains(&key)
            || key == self.tag
            || self.compare.iter().any(|compared| compared == key)
    }

    /// The regions of one answer, with the attributes that most of those gave who gave it.
    pub(crate) fn as_given(
        &self,
        candidate: &Candidate<'_>,
        work: &mut Work,
    ) -> Result<Value, TooMuch> {
        let ballot = Ballot::of_members(candidate.members.clone());
        let how = How {
            method: AgreementMethod::MajorityVote,
            weighted: false,
            metric: self.metrics()[0],
        };
        let regions = (0..candidate.answer().regions().len()).map(|region| {
            let node = Node {
                candidate: 0,
                region,
            };
            Ok(self.region_of(&[node], &ballot, how, work)?.value)
        });
        regions.collect::<Result<Vec<_>, _>>().map(Value::Array)
    }
}

/// A region of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    candidate: usize,
    region: usize,
}

/// Regions of different people that are one.
#[derive(Clone, Debug, Default)]
struct Group {
    nodes: Vec<usize>,
    members: Vec<Node>,
    candidates: BTreeSet<usize>,
    /// Members that are the same region as every other.
    centres: Vec<usize>,
}

/// One region of a value, or that could be.
struct Marked {
    key: Key,
    held: f64,
    value: Value,
}

/// The value that most gave; of equally frequent ones what the medoid says, then one that is there, then
/// the first in order. None where most gave nothing.
fn most_frequent<'v>(votes: impl Iterator<Item = (bool, f64, Option<&'v Value>)>) -> Option<Value> {
    #[derive(Default)]
    struct Vote<'v> {
        strength: f64,
        of_medoid: bool,
        written: Vec<&'v Value>,
    }
    let mut counts: BTreeMap<Option<Form>, Vote<'v>> = BTreeMap::new();
    for (of_medoid, strength, value) in votes {
        let vote = counts.entry(value.map(Form::of)).or_default();
        vote.strength += strength;
        vote.of_medoid |= of_medoid;
        vote.written.extend(value);
    }
    let mut best: Option<(&Option<Form>, &Vote<'v>)> = None;
    for (form, vote) in &counts {
        let better = best.is_none_or(|(best_form, best)| {
            if !equal(vote.strength, best.strength) {
                return vote.strength > best.strength;
            }
            let rank = |form: &Option<Form>, vote: &Vote<'_>| (vote.of_medoid, form.is_some());
            rank(form, vote).cmp(&rank(best_form, best)) == Ordering::Greater
        });
        if better {
            best = Some((form, vote));
        }
    }
    let (form, vote) = best?;
    form.as_ref()?;
    Some(most_written(vote.written.iter().copied()))
}

impl Kind for Regions {
    fn name(&self) -> AnswerKind {
        self.outline.name()
    }

    fn metrics(&self) -> &'static [Metric] {
        match self.outline {
            Outline::Spans(_) => &[Metric::SpanF1, Metric::SpanIou],
            Outline::Segments => &[Metric::SegmentIou, Metric::SegmentF1],
            Outline::Boxes(_) => &[Metric::BoxIou],
            Outline::Polygons => &[Metric::PolygonIou],
        }
    }

    fn methods(&self) -> &'static [AgreementMethod] {
        &[AgreementMethod::MajorityVote, AgreementMethod::MostVotes]
    }

    fn read(&self, value: &Value, reader: &mut Reader<'_>) -> Result<Answer, AnswerError> {
        let noun = self.outline.noun();
        let items = match value {
            Value::Array(items) => items,
            Value::Null => return Err(reader.wrong(Problem::Missing)),
            Value::Object(_) => {
                return Err(reader.wrong(Problem::Unfit {
                    found: "an object".to_owned(),
                    expected: "list of regions",
                    hint: Some(format!("put the {noun} into a list, [{{…}}]")),
                }));
            }
            _ => {
                return Err(reader.wrong(Problem::Unfit {
                    found: kind_of(value).to_owned(),
                    expected: "list of regions",
                    hint: Some("give a list, [] where there is nothing to mark".to_owned()),
                }));
            }
        };
        let mut regions = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            regions.push(reader.at_index(index, |reader| self.region(item, reader))?);
        }
        // The same region twice counts once; of two the one whose other keys come first.
        let text = |region: &Region| crate::canonical::text(&region.json);
        regions.sort_by(|a, b| a.key.cmp(&b.key).then_with(|| text(a).cmp(&text(b))));
        regions.dedup_by(|a, b| a.key == b.key);
        let form = |region: &Region| {
            let coordinates = region.key.coordinates.iter().map(|c| Form::Number(*c));
            Form::List(
                coordinates
                    .chain(region.key.class.iter().cloned())
                    .collect(),
            )
        };
        let form = Form::List(regions.iter().map(form).collect());
        Ok(Answer::new(form, value, Parts::Regions(regions)))
    }

    fn similarity(
        &self,
        metric: Metric,
        a: &Answer,
        b: &Answer,
        work: &mut Work,
    ) -> Result<f64, TooMuch> {
        if a == b {
            return Ok(1.0);
        }
        // One of several matchings may be as good as another and pair more: it is always the same one.
        let (a, b) = if a <= b { (a, b) } else { (b, a) };
        let (a, b) = (a.regions(), b.regions());
        let f1 = matches!(metric, Metric::SpanF1 | Metric::SegmentF1);
        let matches = Self::matched(a, b, if f1 { self.min_iou } else { 0.0 }, work)?;
        let (total, pairs) = ((a.len() + b.len()) as f64, matches.len() as f64);
        Ok(if f1 {
            2.0 * pairs / total
        } else {
            let overlap: f64 = matches.iter().map(|(_, _, iou)| iou).sum();
            (overlap / (total - pairs)).min(1.0)
        })
    }

    fn unite(&self, ballot: &Ballot<'_>, how: How, work: &mut Work) -> Result<Found, TooMuch> {
        let total: f64 = ballot.strengths(how.weighted).iter().sum();
        let mut marked = Vec::new();
        for group in self.groups(ballot, work)? {
            marked.push(self.region_of(&group.members, ballot, how, work)?);
        }
        // Two groups may have come to the same region: the one that more people have stands for both.
        marked.sort_by(|a, b| a.key.cmp(&b.key).then_with(|| b.held.total_cmp(&a.held)));
        marked.dedup_by(|later, first| later.key == first.key);
        let (kept, open): (Vec<_>, Vec<_>) = marked
            .into_iter()
            .partition(|region| exceeds(region.held, total, 0.5));
        let values = |regions: Vec<Marked>| regions.into_iter().map(|r| r.value).collect();
        Ok(Found {
            value: Some(Value::Array(values(kept))),
            tied: false,
            open: values(open),
        })
    }

    fn schema(&self) -> Value {
        let mut properties = self.outline.schema();
        let tag = super::values::schema(self.values.as_ref());
        properties.insert(self.tag.clone(), tag);
        let mut required: Vec<&str> = self.outline.keys().to_vec();
        if self.values.is_some() {
            required.push(&self.tag);
        }
        let region = json!({"type": "object", "properties": properties, "required": required});
        json!({"type": "array", "items": region})
    }
}

/// A number under a key of a region.
pub(super) fn number(
    noun: &'static str,
    region: &Map<String, Value>,
    key: &'static str,
    hint: impl Fn() -> Option<String>,
    reader: &mut Reader<'_>,
) -> Result<Exact, AnswerError> {
    let Some(value) = region.get(key).filter(|value| !value.is_null()) else {
        return Err(reader.wrong(Problem::NoKey {
            region: noun,
            key,
            hint: hint(),
        }));
    };
    reader.at_key(key, |reader| {
        let Value::Number(number) = value else {
            return Err(reader.wrong(Problem::Unfit {
                found: kind_of(value).to_owned(),
                expected: "number",
                hint: None,
            }));
        };
        coordinate(Exact::of(number)).ok_or_else(|| {
            reader.wrong(Problem::TooFar {
                given: shown(value),
            })
        })
    })
}

/// A number whose square is still finite; beyond it nothing can be calculated.
pub(super) fn coordinate(number: Exact) -> Option<Exact> {
    const FURTHEST: f64 = 1e150;
    (number.to_f64().abs() <= FURTHEST).then_some(number)
}

/// Why one edge is not below the other.
pub(super) fn backwards(
    (start_key, start): (&'static str, Exact),
    (end_key, end): (&'static str, Exact),
) -> Problem {
    Problem::Backwards {
        start_key,
        start: start.to_json().to_string(),
        end_key,
        end: end.to_json().to_string(),
    }
}
