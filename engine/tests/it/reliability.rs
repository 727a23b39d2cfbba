//! The live annotator model through its public API: the guarantees that completion relies on.

use glyph_workflow_engine::reliability::{
    CLASSES_MAX, CONFUSION_CLASSES_MAX, Classes, Evidence, Posterior, ReliabilityError,
    ReliabilityModel,
    simulation::{Crowd, Labelled, Random},
};
use proptest::prelude::*;

fn open() -> ReliabilityModel {
    ReliabilityModel::new(Classes::Open).expect("no classes to be wrong")
}

fn declared(classes: &[&str]) -> Result<ReliabilityModel, ReliabilityError> {
    ReliabilityModel::new(Classes::Declared(
        classes.iter().map(|&c| c.to_owned()).collect(),
    ))
}

fn posterior_of(model: &ReliabilityModel, labels: &[(&str, &str)]) -> Posterior {
    model
        .posterior_of(labels)
        .expect("known classes")
        .posterior()
}

/// A crowd's labels as names, item by item.
fn named(data: &Labelled) -> Vec<(String, Vec<(String, String)>)> {
    let labels = data.labels.iter().enumerate().map(|(item, labels)| {
        let name = |(k, c): &(usize, usize)| (format!("k{k}"), format!("c{c}"));
        (format!("i{item}"), labels.iter().map(name).collect())
    });
    labels.collect()
}

fn learn(model: &mut ReliabilityModel, items: &[(String, Vec<(String, String)>)]) {
    for (item, labels) in items {
        for (annotator, class) in labels {
            model
                .observe(item, annotator, class)
                .expect("an open set of classes");
        }
        model.close(item);
    }
}

fn small(seed: u64) -> Vec<(String, Vec<(String, String)>)> {
    let crowd = Crowd {
        items: 40,
        annotators: 8,
        labels: 4,
        frequencies: vec![1.0; 3],
        ..Crowd::default()
    };
    named(&crowd.label(seed))
}

#[test]
fn a_model_that_knows_nothing_asks_for_more_than_two() {
    let mut model = open();
    let labels: Vec<String> = (0..10).map(|k| format!("k{k}")).collect();
    let mut asked = 0;
    for end in 1..=10 {
        let given: Vec<(&str, &str)> = labels[..end].iter().map(|k| (k.as_str(), "yes")).collect();
        if model
            .posterior_for("first", &given)
            .unwrap()
            .posterior()
            .confidence
            >= 0.95
        {
            break;
        }
        asked = end;
        model.observe("first", given[end - 1].0, "yes").unwrap();
    }
    assert!((2..10).contains(&asked), "{asked} labels were not enough");
}

#[test]
fn without_labels_the_answer_is_the_prior() {
    let posterior = posterior_of(&open(), &[]);
    assert_eq!((posterior.best, posterior.confidence), (None, 0.0));
    assert!((posterior.unseen - 1.0).abs() < 1e-12);
    let posterior = posterior_of(&declared(&["b", "a"]).unwrap(), &[]);
    assert_eq!(posterior.probabilities, [0.5, 0.5]);
    assert_eq!(
        posterior.best.as_deref(),
        Some("a"),
        "the first by name on a tie"
    );
    assert!(posterior.unseen.abs() < 1e-12);
}

#[test]
fn evidence_is_all_that_a_decision_needs() {
    let mut model = open();
    learn(&mut model, &small(1));
    let evidence = model
        .posterior_of(&[("k1", "c0"), ("k2", "c1"), ("new", "c7")])
        .unwrap();
    assert_eq!(evidence.classes.last().map(String::as_str), Some("c7"));
    assert_eq!(evidence.labels[2].labels, 0);
    let text = serde_json::to_string(&evidence).unwrap();
    let read: Evidence = serde_json::from_str(&text).unwrap();
    assert_eq!(read, evidence);
    assert_eq!(read.posterior(), evidence.posterior());
    // By hand: the product of the prior and the vectors.
    let mut products = evidence.prior.clone();
    for label in &evidence.labels {
        assert_eq!(label.likelihood.len(), products.len());
        for (product, likelihood) in products.iter_mut().zip(&label.likelihood) {
            *product *= likelihood;
        }
    }
    let sum: f64 = products.iter().sum();
    let posterior = evidence.posterior();
    let all = posterior.probabilities.iter().chain([&posterior.unseen]);
    for (probability, product) in all.zip(&products) {
        assert!((probability - product / sum).abs() < 1e-12);
    }
}

#[test]
fn people_are_told_apart() {
    let mut model = open();
    for n in 0..60 {
        let (item, truth, lie) = if n % 2 == 0 {
            (n, "a", "b")
        } else {
            (n, "b", "a")
        };
        let item = format!("{item}");
        for good in ["ada", "bob", "cem"] {
            model.observe(&item, good, truth).unwrap();
        }
        model.observe(&item, "liar", lie).unwrap();
        model.observe(&item, "spammer", "a").unwrap();
        model.close(&item);
    }
    let [ada, liar, spammer, unknown] =
        ["ada", "liar", "spammer", "nobody"].map(|name| model.reliability(name));
    assert!(
        ada.accuracy > 0.95 && ada.low > 0.88 && ada.labels == 60,
        "{ada:?}"
    );
    assert!(liar.accuracy < 0.15 && liar.high < 0.25, "{liar:?}");
    assert!((spammer.accuracy - 0.5).abs() < 0.05, "{spammer:?}");
    assert!(
        unknown.labels == 0 && unknown.high - unknown.low > 0.2,
        "{unknown:?}"
    );
    assert!(unknown.variance > 10.0 * ada.variance);
    assert_eq!(
        [
            model.weight("liar").abs() < 1e-12,
            model.weight("ada") > 3.0
        ],
        [true; 2]
    );
    assert!(model.weight("spammer") < 0.3);
    assert!((0.3..3.0).contains(&model.weight("nobody")));
    // A reliable liar is as informative as a reliable friend.
    let answer = posterior_of(&model, &[("liar", "a")]);
    assert!(
        answer.best.as_deref() == Some("b") && answer.confidence > 0.8,
        "{answer:?}"
    );
    let rows = model.confusion("spammer");
    assert!(
        rows.iter()
            .all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-9)
    );
    assert!(rows[1][0] > 0.8, "says a where b is true: {rows:?}");
}

#[test]
fn gold_turns_a_crowd_round() {
    let mut model = open();
    let (mut without, classes) = (open(), ["a", "b"]);
    for n in 0..40 {
        let item = format!("{n}");
        for liar in ["x", "y", "z"] {
            model.observe(&item, liar, classes[(n + 1) % 2]).unwrap();
            without.observe(&item, liar, classes[(n + 1) % 2]).unwrap();
        }
        model.observe_gold(&item, classes[n % 2]).unwrap();
    }
    let labels = [("x", "a"), ("y", "a")];
    assert_eq!(posterior_of(&without, &labels).best.as_deref(), Some("a"));
    let answer = posterior_of(&model, &labels);
    assert!(
        answer.best.as_deref() == Some("b") && answer.confidence > 0.95,
        "{answer:?}"
    );
    let x = model.reliability("x");
    assert_eq!((x.gold_labels, x.gold_right), (40, 0));
}

#[test]
fn gold_counts_alike_before_and_after_its_labels() {
    let (mut before, mut after) = (open(), open());
    for n in 0..6 {
        let item = format!("{n}");
        for model in [&mut before, &mut after] {
            model.observe(&item, "ada", "a").unwrap();
            model.observe(&item, "bob", "b").unwrap();
        }
    }
    before.observe_gold("gold", "b").unwrap();
    for model in [&mut before, &mut after] {
        model.observe("gold", "ada", "a").unwrap();
        model.observe("gold", "bob", "b").unwrap();
    }
    after.observe_gold("gold", "a").unwrap();
    after.observe_gold("gold", "b").unwrap();
    for name in ["ada", "bob"] {
        let (one, other) = (before.reliability(name), after.reliability(name));
        assert!(
            (one.accuracy - other.accuracy).abs() < 1e-12,
            "{one:?} {other:?}"
        );
        assert_eq!(
            (one.gold_labels, one.gold_right),
            (other.gold_labels, other.gold_right)
        );
    }
    assert!(before.reliability("bob").accuracy > before.reliability("ada").accuracy);
}

#[test]
fn classes_are_declared_or_open() {
    assert_eq!(
        declared(&[]).unwrap_err(),
        ReliabilityError::MalformedClasses
    );
    assert_eq!(
        declared(&["a", "a"]).unwrap_err(),
        ReliabilityError::MalformedClasses
    );
    let mut model = declared(&["a", "b"]).unwrap();
    let before = model.clone();
    let class = "c".to_owned();
    let error = ReliabilityError::UndeclaredClass { class };
    assert_eq!(model.observe("i", "k", "c"), Err(error.clone()));
    assert_eq!(model.observe_gold("i", "c"), Err(error.clone()));
    assert_eq!(model.posterior_of(&[("k", "c")]), Err(error));
    assert_eq!(model, before);

    let mut model = open();
    for n in 0..CLASSES_MAX {
        model
            .observe(
                &format!("i{}", n / 2),
                &format!("k{}", n % 2),
                &format!("{n}"),
            )
            .unwrap();
    }
    let error = Err(ReliabilityError::TooManyClasses { limit: CLASSES_MAX });
    assert_eq!(model.observe("i", "k", "one more"), error);
    assert_eq!(model.classes().len(), CLASSES_MAX);
    assert!(model.posterior("i0").unwrap().confidence.is_finite());
}

#[test]
fn many_classes_are_told_by_one_coin() {
    let mut model = open();
    let class = |n: usize| format!("{}", n % (CONFUSION_CLASSES_MAX + 3));
    for n in 0..90 {
        for good in ["ada", "bob"] {
            model.observe(&format!("{n}"), good, &class(n)).unwrap();
        }
        model
            .observe(&format!("{n}"), "spammer", &class(n * 7 + 3))
            .unwrap();
    }
    let answer = posterior_of(&model, &[("ada", "3"), ("spammer", "4")]);
    assert!(
        answer.best.as_deref() == Some("3") && answer.confidence > 0.9,
        "{answer:?}"
    );
    assert!(model.reliability("spammer").accuracy < 0.3);
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let mut model = open();
    learn(&mut model, &small(2));
    let good = serde_json::to_value(&model).unwrap();
    assert!(serde_json::from_value::<ReliabilityModel>(good.clone()).is_ok());
    for damage in [
        |v: &mut serde_json::Value| v["version"] = 99.into(),
        |v: &mut serde_json::Value| v["classes"] = serde_json::json!(["c0"]),
        |v: &mut serde_json::Value| v["annotators"] = serde_json::json!([]),
        |v: &mut serde_json::Value| v["experts"] = serde_json::json!([]),
        |v: &mut serde_json::Value| v["next_item"] = 0.into(),
        |v: &mut serde_json::Value| v["experts"][7]["tallies"][0]["classes"] = 9.into(),
    ] {
        let mut bad = good.clone();
        damage(&mut bad);
        assert!(serde_json::from_value::<ReliabilityModel>(bad).is_err());
    }
}

#[test]
fn asking_until_certain_beats_a_vote_of_all() {
    let crowd = Crowd {
        items: 150,
        annotators: 20,
        spammers: 0.4,
        ..Crowd::default()
    };
    let data = crowd.label(11);
    let items = named(&data);
    let mut order: Vec<usize> = (0..items.len()).collect();
    Random::new(3).shuffle(&mut order);
    let mut model = open();
    let (mut right, mut vote, mut used) = (0.0, 0.0, 0.0);
    for task in order {
        let (item, labels) = &items[task];
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|(k, c)| (k.as_str(), c.as_str()))
            .collect();
        let mut answer = None;
        for end in 1..=labels.len() {
            let posterior = model
                .posterior_for(item, &labels[..end])
                .unwrap()
                .posterior();
            model
                .observe(item, labels[end - 1].0, labels[end - 1].1)
                .unwrap();
            used += 1.0;
            answer = posterior.best;
            if end >= 2 && posterior.confidence >= 0.95 {
                break;
            }
        }
        model.close(item);
        let truth = format!("c{}", data.truth[task].unwrap());
        right += f64::from(u8::from(answer.as_ref() == Some(&truth)));
        let votes = labels.iter().filter(|(_, class)| *class == truth).count();
        vote += [0.0, 0.5, 1.0][usize::from(votes >= 5) + usize::from(votes > 5)];
    }
    assert!(right > vote, "{right} right answers against {vote}");
    assert!(used < 7.5 * 150.0, "{used} labels");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_checkpoint_anywhere_changes_nothing(seed in 0_u64..1000, at in 0_usize..40) {
        let items = small(seed);
        let mut through = open();
        learn(&mut through, &items);
        let mut first = open();
        learn(&mut first, &items[..at]);
        let text = serde_json::to_string(&first).unwrap();
        let mut second: ReliabilityModel = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&second, &first);
        learn(&mut second, &items[at..]);
        prop_assert_eq!(second, through);
    }

    #[test]
    fn an_item_does_not_confirm_itself(seed in 0_u64..1000, size in 1_usize..12) {
        let items = small(seed);
        let mut model = open();
        // Sixteen labels to learn from, three to predict: before the first refit, so that both see
        // the same.
        learn(&mut model, &items[..4]);
        let size = size.min(3);
        let labels: Vec<(&str, &str)> =
            items[4].1[..size].iter().map(|(k, c)| (k.as_str(), c.as_str())).collect();
        for (_, class) in &labels {
            // Known classes only: a new class changes the set of possible answers.
            prop_assume!(model.classes().iter().any(|known| known == class));
        }
        let before = model.posterior_of(&labels).unwrap().posterior();
        for (annotator, class) in &labels {
            model.observe("item", annotator, class).unwrap();
        }
        let after = model.posterior_for("item", &labels).unwrap().posterior();
        let same = model.posterior("item").unwrap();
        for (one, other) in before.probabilities.iter().zip(&after.probabilities) {
            prop_assert!((one - other).abs() < 1e-9, "{before:?} {after:?}");
        }
        prop_assert_eq!(after, same);
    }

    #[test]
    fn posteriors_are_probabilities(seed in 0_u64..1000, gold in 0_usize..20) {
        let items = small(seed);
        let mut model = open();
        for (item, labels) in &items[..gold] {
            model.observe_gold(item, &labels[0].1).unwrap();
        }
        learn(&mut model, &items);
        model.refit();
        for (item, _) in &items {
            let posterior = model.posterior(item).unwrap();
            let sum: f64 = posterior.probabilities.iter().sum::<f64>() + posterior.unseen;
            prop_assert!((sum - 1.0).abs() < 1e-9);
            prop_assert!(posterior.probabilities.iter().all(|p| (0.0..=1.0).contains(p)));
        }
        for annotator in model.annotators() {
            let one = model.reliability(annotator);
            prop_assert!(0.0 <= one.low && one.low <= one.accuracy && one.accuracy <= one.high && one.high <= 1.0);
            prop_assert!(model.weight(annotator).is_finite());
        }
    }
}
