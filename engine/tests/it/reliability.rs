//! The live annotator model through its public API: the guarantees that completion relies on.

use glyph_workflow_engine::reliability::{
    CLASSES_MAX, CONFUSION_CLASSES_MAX, Classes, Evidence, Label, Posterior, ReliabilityError,
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

/// Asks for the labels of a crowd one by one until 0.95 is reached; people below `group` are one.
/// Returns confidence and whether the answer is right, by item.
fn asked(
    model: &mut ReliabilityModel,
    data: &Labelled,
    (group, max): (usize, usize),
) -> Vec<(f64, bool)> {
    let mut answers = Vec::new();
    for (n, (item, labels)) in named(data).iter().enumerate() {
        let of = |t: usize| (data.labels[n][t].0 < group).then_some("models");
        let labels = labels
            .iter()
            .enumerate()
            .map(|(t, (annotator, class))| Label {
                annotator,
                class,
                group: of(t),
            });
        let labels: Vec<Label<'_>> = labels.take(max).collect();
        let mut last = None;
        for end in 1..=labels.len() {
            let evidence = model.posterior_for(item, &labels[..end]).unwrap();
            model.observe_label(item, labels[end - 1]).unwrap();
            let posterior = last.insert(evidence.posterior());
            if end >= 2 && posterior.confidence >= 0.95 {
                break;
            }
        }
        model.close(item);
        let posterior = last.expect("labels");
        let truth = format!("c{}", data.truth[n].unwrap());
        answers.push((posterior.confidence, posterior.best == Some(truth)));
    }
    answers
}

#[test]
fn copies_of_one_model_are_worth_one_vote() {
    for (models, share, worth) in [(2, 1.0, 1.0..1.1), (9, 0.66, 1.5..3.0)] {
        let crowd = Crowd {
            items: 700,
            annotators: 20 + models,
            labels: 20 + models,
            rates: vec![0.8; 2],
            copies: (models, share, 0.85),
            ..Crowd::default()
        };
        let data = crowd.label(31);
        let mut model = open();
        let answers = asked(&mut model, &data, (models, 29));
        let reached: Vec<_> = answers.iter().filter(|(p, _)| *p >= 0.95).collect();
        let right = reached.iter().filter(|(_, right)| *right).count() as f64;
        let right = right / reached.len() as f64;
        assert!((0.92..=0.985).contains(&right), "{models}: {right}");
        let names: Vec<String> = (0..models).map(|k| format!("k{k}")).collect();
        let labels: Vec<(&str, &str)> = names.iter().map(|k| (k.as_str(), "c0")).collect();
        let groups = model.posterior_of(&labels).unwrap().groups;
        assert!(worth.contains(&groups[0].votes), "{groups:?}");
        let text = serde_json::to_string(&model).unwrap();
        assert_eq!(
            serde_json::from_str::<ReliabilityModel>(&text).unwrap(),
            model
        );
    }
}

#[test]
fn undeclared_copies_are_found() {
    let crowd = Crowd {
        items: 150,
        annotators: 6,
        labels: 6,
        rates: vec![0.8; 2],
        copies: (2, 1.0, 0.85),
        ..Crowd::default()
    };
    let mut model = open();
    learn(&mut model, &named(&crowd.label(4)));
    let pairs = model.suspicious_pairs();
    assert_eq!(pairs.len(), 1, "{pairs:?}");
    let mut pair = [pairs[0].first.as_str(), pairs[0].second.as_str()];
    pair.sort_unstable();
    assert_eq!(pair, ["k0", "k1"]);
    assert_eq!((pairs[0].items, pairs[0].alike), (150, 150));
    assert!(pairs[0].correlation > 0.9, "{pairs:?}");
    // Two people who are right in 80 % of items agree in 68 %.
    let expected = pairs[0].alike_expected / 150.0;
    assert!((0.6..0.8).contains(&expected), "{pairs:?}");
}

#[test]
fn who_is_contradicted_by_copies_is_not_suspected() {
    let mut model = open();
    for n in 0..100 {
        let item = format!("{n}");
        let (truth, other) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
        for (good, errs) in [("ada", n % 11 == 3), ("bob", n % 13 == 5)] {
            let label = if errs { other } else { truth };
            model.observe(&item, good, label).unwrap();
        }
        for copy in ["one", "two"] {
            let label = if n % 5 == 0 { other } else { truth };
            model.observe(&item, copy, label).unwrap();
        }
        let label = if n % 7 == 0 { other } else { truth };
        model.observe(&item, "cem", label).unwrap();
        model.close(&item);
    }
    let pairs = model.suspicious_pairs();
    assert_eq!(pairs.len(), 1, "{pairs:?}");
    assert_eq!(
        (pairs[0].first.as_str(), pairs[0].second.as_str()),
        ("one", "two")
    );
}

#[test]
fn independent_people_are_not_suspected() {
    for (seed, hard) in (0..4).flat_map(|seed| [(seed, 0.0), (seed, 0.3)]) {
        let crowd = Crowd {
            items: 80,
            annotators: 6,
            labels: 4,
            rates: vec![0.8, 0.9],
            hard,
            ..Crowd::default()
        };
        let mut model = open();
        learn(&mut model, &named(&crowd.label(seed)));
        let pairs = model.suspicious_pairs();
        assert!(pairs.is_empty(), "{seed}, hard {hard}: {pairs:?}");
    }
}

#[test]
fn pairs_are_compared_within_bounds() {
    let mut model = open();
    for n in 0..12 {
        let item = format!("{n}");
        for k in 0..40 {
            let class = if (n * 7 + k * k) % 3 == 0 { "a" } else { "b" };
            model.observe(&item, &format!("k{k}"), class).unwrap();
        }
    }
    for pair in model.suspicious_pairs() {
        let first: usize = pair.first[1..].parse().unwrap();
        let second: usize = pair.second[1..].parse().unwrap();
        assert!(first < 30 && second < 30 && pair.items == 12, "{pair:?}");
    }
}

#[test]
fn who_is_asked_late_is_not_taken_for_bad() {
    for fixed_order in [false, true] {
        let (mut held, mut all) = (0, 0);
        for seed in 0..6 {
            let crowd = Crowd {
                items: 400,
                annotators: 10,
                rates: vec![0.95; 2],
                hard: 0.25,
                fixed_order,
                ..Crowd::default()
            };
            let data = crowd.label(seed);
            let mut model = open();
            asked(&mut model, &data, (0, 10));
            for (k, truth) in data.accuracy.iter().enumerate() {
                let one = model.reliability(&format!("k{k}"));
                held += u32::from(one.low <= *truth && *truth <= one.high);
                all += 1;
            }
        }
        assert!(
            held * 100 >= all * 90,
            "{held} of {all}, fixed {fixed_order}"
        );
    }
}

#[test]
fn a_change_is_noticed_and_fades_in() {
    let mut model = open();
    for n in 0..240 {
        let item = format!("{n}");
        let (truth, other) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
        for good in ["ada", "bob", "cem"] {
            model.observe(&item, good, truth).unwrap();
        }
        let tired = if n >= 160 && n % 4 < 2 { other } else { truth };
        model.observe(&item, "tired", tired).unwrap();
        model.close(&item);
    }
    let survey = model.survey();
    assert_eq!(survey.annotator("ada", 30.0).change, None);
    let tired = survey.annotator("tired", 30.0);
    let change = tired.change.as_ref().expect("a change");
    assert!((140..=175).contains(&change.labels_before), "{change:?}");
    assert_eq!(change.labels_before + change.labels_since, 240);
    assert_eq!(change.item, change.labels_before.to_string());
    assert!(change.before > 0.9 && change.now < 0.7, "{change:?}");
    assert_eq!(tired.whole, model.reliability("tired"));
    let (whole, lately) = (tired.whole.accuracy, tired.lately.accuracy);
    assert!(lately < whole - 0.1, "{tired:?}");
    let nobody = survey.annotator("nobody", 30.0);
    assert_eq!(nobody.whole, model.reliability("nobody"));
    assert_eq!(nobody.lately, nobody.whole);
}

#[test]
fn looking_back_tells_items_and_people_apart() {
    let mut model = open();
    for n in 0..60 {
        let item = format!("{n}");
        let truth = if n % 2 == 0 { "a" } else { "b" };
        for k in ["ada", "bob", "cem", "dan"] {
            let turned = n % 6 == 0 && (k == "cem" || k == "dan");
            model
                .observe(&item, k, if turned { "b" } else { truth })
                .unwrap();
        }
        model.close(&item);
    }
    let difficulty = |item| model.difficulty(item).unwrap();
    let (easy, hard) = (difficulty("1"), difficulty("6"));
    assert!(hard > 3.0 * easy, "{easy} {hard}");
    assert_eq!(model.difficulty("no item"), None);
    assert!(model.posterior("1").unwrap().confidence > 0.95);
    let survey = model.survey();
    let agreement = survey.agreement("ada");
    // 20 of 30 items of class a are undisputed: 3 pairs each; on ten one of three agrees.
    assert_eq!((agreement[0].both, agreement[0].one), (20 * 3 + 10, 20));
    assert_eq!(survey.agreement("nobody")[0].agreement, None);
}

#[test]
fn a_verdict_tells_annotators_apart() {
    let mut model = open();
    for n in 0..40 {
        let item = format!("{n}");
        let (truth, other) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
        model.observe(&item, "ada", truth).unwrap();
        model
            .observe(&item, "bob", if n % 4 < 2 { truth } else { other })
            .unwrap();
        model.observe_verdict(&item, "eve", truth).unwrap();
        model.close(&item);
    }
    let [ada, bob] = ["ada", "bob"].map(|name| model.reliability(name).accuracy);
    assert!(ada > bob + 0.2, "{ada} {bob}");
}

/// A model of a crowd with that share of positives.
fn trained(positives: f64, sensitivity: f64, specificity: f64, seed: u64) -> ReliabilityModel {
    let crowd = Crowd {
        items: 500,
        annotators: 25,
        frequencies: vec![1.0 - positives, positives],
        rates: vec![specificity, sensitivity],
        ..Crowd::default()
    };
    let mut model = open();
    asked(&mut model, &crowd.label(seed), (0, 10));
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_further_equal_label_never_lowers_its_class(
        positives in 0.02_f64..0.5,
        sensitivity in 0.6_f64..0.9,
        specificity in 0.8_f64..0.97,
        seed in 0_u64..1000,
        strangers in any::<bool>(),
    ) {
        let model = trained(positives, sensitivity, specificity, seed);
        let who = if strangers { "s" } else { "k" };
        let names: Vec<String> = (0..20).map(|k| format!("{who}{k}")).collect();
        for class in ["c0", "c1"] {
            let labels: Vec<(&str, &str)> = names.iter().map(|k| (k.as_str(), class)).collect();
            let mut before = 0.0;
            for end in 1..=20 {
                let last = labels[end - 1].0;
                let (classes, rows) = (model.classes(), model.confusion(last));
                let said = classes.iter().position(|one| one == class);
                let rate = |truth: Option<usize>| Some(rows[truth?][said?]);
                let right = rate(said).unwrap_or(1.0);
                let wrong = rate(classes.iter().position(|one| one != class)).unwrap_or(0.0);
                let evidence = model.posterior_of(&labels[..end]).unwrap();
                let posterior = evidence.posterior();
                let at = posterior.classes.iter().position(|one| one == class).unwrap();
                let now = posterior.probabilities[at];
                if right > wrong + 0.02 {
                    prop_assert!(end == 1 || now >= before - 1e-9, "{end}: {before} to {now}");
                }
                before = now;
            }
            prop_assert!(before > 0.5, "20 equal labels are the answer: {before}");
        }
    }
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
