//! The sets: public ones read from files, and generated ones.

use std::{collections::BTreeMap, error::Error, fs};

use glyph_workflow_engine::reliability::simulation::{Crowd, Labelled, Random};

pub(crate) struct Set {
    pub name: String,
    pub data: Labelled,
    pub max: usize,
    /// The class whose recall counts.
    pub rare: Option<usize>,
}

/// All sets; the public ones only if there is a folder.
pub(crate) fn all(folder: Option<&str>) -> Result<Vec<Set>, Box<dyn Error>> {
    let mut sets = Vec::new();
    if let Some(folder) = folder {
        for name in ["rte", "temp", "wsd"] {
            sets.push(Set {
                name: name.to_owned(),
                data: read(&format!("{folder}/snow2008/{name}."))?,
                max: 10,
                rare: None,
            });
        }
        let birds = read(&format!("{folder}/bluebirds/"))?;
        let mut random = Random::new(5);
        let mut shuffled = birds.clone();
        for labels in &mut shuffled.labels {
            random.shuffle(labels);
        }
        for (name, data, max) in [
            ("bluebirds", birds.clone(), 10),
            ("bluebirds, labels shuffled", shuffled, 10),
            ("bluebirds, max 39", birds, 39),
        ] {
            let name = name.to_owned();
            sets.push(Set {
                name,
                data,
                max,
                rare: None,
            });
        }
    }
    sets.extend(made_up());
    Ok(sets)
}

pub(crate) fn made_up() -> Vec<Set> {
    let base = Crowd::default;
    let even = |classes| vec![1.0; classes];
    let skewed = |classes: usize, first: f64| {
        let mut frequencies = vec![(1.0 - first) / (classes - 1) as f64; classes];
        frequencies[0] = first;
        frequencies
    };
    let rare = |share: f64, sensitivity, specificity| Crowd {
        items: 2000,
        annotators: 25,
        frequencies: vec![1.0 - share, share],
        rates: vec![specificity, sensitivity],
        ..base()
    };
    let crowds = [
        ("plain", Crowd { ..base() }),
        (
            "skewed 0.9",
            Crowd {
                frequencies: skewed(2, 0.9),
                ..base()
            },
        ),
        (
            "skewed 0.95, class effects",
            Crowd {
                frequencies: skewed(2, 0.95),
                skill: (1.8, 0.7),
                class_effects: 0.5,
                ..base()
            },
        ),
        (
            "40 % spammers",
            Crowd {
                spammers: 0.4,
                ..base()
            },
        ),
        (
            "40 % spammers, 4 classes",
            Crowd {
                spammers: 0.4,
                frequencies: even(4),
                ..base()
            },
        ),
        (
            "10 % adversaries",
            Crowd {
                adversaries: 0.1,
                ..base()
            },
        ),
        (
            "20 % adversaries",
            Crowd {
                adversaries: 0.2,
                ..base()
            },
        ),
        (
            "40 % of tasks hard",
            Crowd {
                hard: 0.4,
                skill: (2.0, 0.7),
                ..base()
            },
        ),
        (
            "25 % of tasks misleading",
            Crowd {
                misleading: 0.25,
                skill: (1.8, 0.7),
                ..base()
            },
        ),
        (
            "25 % misleading, 3 classes",
            Crowd {
                misleading: 0.25,
                skill: (1.8, 0.7),
                frequencies: even(3),
                ..base()
            },
        ),
        (
            "class effects",
            Crowd {
                class_effects: 1.0,
                ..base()
            },
        ),
        (
            "class effects, 3 skewed classes",
            Crowd {
                class_effects: 0.7,
                frequencies: skewed(3, 0.8),
                ..base()
            },
        ),
        (
            "4 classes",
            Crowd {
                skill: (0.5, 0.7),
                frequencies: even(4),
                ..base()
            },
        ),
        (
            "5 ordered classes",
            Crowd {
                skill: (0.3, 0.7),
                frequencies: even(5),
                neighbours: 1.5,
                ..base()
            },
        ),
        (
            "6 classes, class effects",
            Crowd {
                skill: (0.5, 0.7),
                frequencies: even(6),
                class_effects: 0.7,
                ..base()
            },
        ),
        (
            "6 skewed classes, 100 people",
            Crowd {
                skill: (0.8, 0.7),
                frequencies: skewed(6, 0.6),
                class_effects: 0.7,
                annotators: 100,
                ..base()
            },
        ),
        (
            "10 labels a person",
            Crowd {
                annotators: 500,
                ..base()
            },
        ),
        (
            "20 labels a person in batches, 20 % spammers",
            Crowd {
                annotators: 250,
                batch: 20,
                spammers: 0.2,
                ..base()
            },
        ),
        (
            "1,000 labels a person",
            Crowd {
                annotators: 10,
                items: 1000,
                ..base()
            },
        ),
        (
            "100 tasks, 10 people",
            Crowd {
                annotators: 10,
                items: 100,
                ..base()
            },
        ),
        (
            "60 tasks, 4 classes",
            Crowd {
                annotators: 30,
                items: 60,
                frequencies: even(4),
                ..base()
            },
        ),
        (
            "weak crowd",
            Crowd {
                skill: (0.4, 0.5),
                ..base()
            },
        ),
        (
            "strong crowd",
            Crowd {
                skill: (3.0, 0.5),
                ..base()
            },
        ),
        (
            "5 labels a task",
            Crowd {
                labels: 5,
                items: 800,
                ..base()
            },
        ),
        ("2 % positives", rare(0.02, 0.9, 0.98)),
        ("3 % positives", rare(0.03, 0.7, 0.97)),
        ("5 % positives", rare(0.05, 0.6, 0.95)),
    ];
    crowds
        .into_iter()
        .zip(1000..)
        .map(|((name, crowd), seed)| Set {
            name: name.to_owned(),
            rare: (!crowd.rates.is_empty()).then_some(1),
            data: crowd.label(seed),
            max: 10,
        })
        .collect()
}

#[derive(serde::Deserialize)]
struct Line {
    task: String,
    annotator: Option<String>,
    label: String,
}

fn read(path: &str) -> Result<Labelled, Box<dyn Error>> {
    let lines = |name: &str| -> Result<Vec<Line>, Box<dyn Error>> {
        let text = fs::read_to_string(format!("{path}{name}.jsonl"))?;
        Ok(text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?)
    };
    let number = |ids: &mut BTreeMap<String, usize>, name: String| {
        let next = ids.len();
        *ids.entry(name).or_insert(next)
    };
    let [mut tasks, mut annotators, mut classes] = [const { BTreeMap::new() }; 3];
    let mut labels: Vec<Vec<(usize, usize)>> = Vec::new();
    for line in lines("labels")? {
        let task = number(&mut tasks, line.task);
        let annotator = number(&mut annotators, line.annotator.unwrap_or_default());
        let class = number(&mut classes, line.label);
        labels.resize_with(labels.len().max(task + 1), Vec::new);
        labels[task].push((annotator, class));
    }
    let mut truth = vec![None; labels.len()];
    for line in lines("gold")? {
        if let Some(&task) = tasks.get(&line.task) {
            truth[task] = classes.get(&line.label).copied();
        }
    }
    Ok(Labelled {
        classes: classes.len(),
        labels,
        truth,
        accuracy: Vec::new(),
    })
}
