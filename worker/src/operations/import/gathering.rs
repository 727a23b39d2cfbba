//! From the rows of a file to commands: one start for each task, one submission for each judgement.

use std::collections::HashMap;

use glyph_workflow_engine::ids::{CommandId, TaskId, UserId};
use serde_json::{Map, Value, json};

use super::{
    commands::{ImportedCommand, command},
    mapping::ImportOnly,
    reading::{Import, ImportFault},
    record::{Judgement, Record, Refusal, listed},
    rows::{Row, RowFault, Rows},
};

/// Tasks whose input is kept, to say in what another row of the same task differs.
const KEPT_INPUTS_MAX: usize = 1_000;

/// What came of one row.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// The commands, in the order in which they are to be sent.
    pub commands: Vec<ImportedCommand>,
    /// What cannot be imported.
    pub refused: Vec<Refusal>,
    /// Why judgements were left out that are none.
    pub skipped: Vec<&'static str>,
    /// Remarks.
    pub notes: Vec<&'static str>,
    /// Whether it is a new task with a known answer.
    pub is_gold: bool,
    /// Whether the task has one judgement more than the step asks for.
    pub is_crowded: bool,
}

/// The first row of a task.
struct FirstRow {
    /// Its line, or its number where the file has no lines.
    line: u64,
    start: CommandId,
    judgements: u32,
}

/// The rows of a file, as commands.
pub struct Imported<'i> {
    import: &'i Import,
    rows: Rows,
    tasks: HashMap<TaskId, FirstRow>,
    inputs: HashMap<TaskId, Map<String, Value>>,
    number: u64,
}

impl<'i> Imported<'i> {
    /// Reads the file from the beginning.
    pub fn of(import: &'i Import) -> Result<Self, ImportFault> {
        Ok(Self {
            import,
            rows: import.rows()?,
            tasks: HashMap::new(),
            inputs: HashMap::new(),
            number: 0,
        })
    }
}

impl Iterator for Imported<'_> {
    type Item = Result<Gathered, ImportFault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.number += 1;
        match self.rows.next()? {
            Ok(row) => Some(self.gather(&row)),
            Err(RowFault::Row(refusal)) => Some(Ok(refused(refusal))),
            Err(RowFault::File(why)) => Some(Err(self.import.fault(&why))),
        }
    }
}

fn refused(refusal: Refusal) -> Gathered {
    Gathered {
        refused: vec![refusal],
        ..Gathered::default()
    }
}

impl Imported<'_> {
    fn gather(&mut self, row: &Row) -> Result<Gathered, ImportFault> {
        let record = match self.import.record(&row.fields) {
            Ok(record) => record,
            Err(refusal) => return Ok(refused(refusal.on(row.line))),
        };
        let mut gathered = Gathered {
            refused: record.refused.clone(),
            skipped: record.skipped.clone(),
            notes: record.notes.clone(),
            ..Gathered::default()
        };
        let task_id = TaskId::of_key(&format!("{}{}", self.import.mapping.key_prefix, record.key));
        let input = Value::Object(record.input.clone());
        if let Err(refusal) = self.start(task_id, row.line, &record, &mut gathered) {
            return Ok(refused(refusal.on(row.line)));
        }
        for judgement in &record.judgements {
            self.require_role()?;
            match self.submission(task_id, judgement, &input) {
                Ok(command) => {
                    gathered.commands.push(command);
                    gathered.is_crowded |= self.count(task_id);
                }
                Err(refusal) => gathered.refused.push(match &judgement.place {
                    Some(place) => refusal.at(place),
                    None => refusal,
                }),
            }
        }
        for refusal in &mut gathered.refused {
            refusal.line = refusal.line.or(row.line);
        }
        Ok(gathered)
    }

    /// Starts the task of the record, if this is its first row.
    fn start(
        &mut self,
        task_id: TaskId,
        line: Option<u64>,
        record: &Record,
        gathered: &mut Gathered,
    ) -> Result<(), Refusal> {
        let import = self.import;
        let line = line.unwrap_or(self.number);
        if import.mapping.only == ImportOnly::Answers {
            let first = FirstRow {
                line,
                start: CommandId(task_id.0),
                judgements: 0,
            };
            self.tasks.entry(task_id).or_insert(first);
            return Ok(());
        }
        let input = Value::Object(record.input.clone());
        let mut fields = Map::new();
        fields.insert("workflow".to_owned(), import.workflow.clone().into());
        fields.insert("input".to_owned(), input.clone());
        if !record.labels.is_empty() {
            fields.insert("labels".to_owned(), json!(record.labels));
        }
        if let Some(parts) = &record.expected {
            let known = import.question.known(parts)?;
            import.question.check_known(&known, &input)?;
            fields.insert("expected".to_owned(), known);
        }
        let start = command("start", task_id, fields)?;
        if let Some(first) = self.tasks.get(&task_id) {
            if first.start == start.command_id {
                return Ok(());
            }
            return Err(self.other_item(task_id, first.line, record));
        }
        let first = FirstRow {
            line,
            start: start.command_id,
            judgements: 0,
        };
        self.tasks.insert(task_id, first);
        if self.inputs.len() < KEPT_INPUTS_MAX {
            self.inputs.insert(task_id, record.input.clone());
        }
        gathered.is_gold = record.expected.is_some();
        gathered.commands.push(start);
        Ok(())
    }

    /// Two rows of one task that say different things of it.
    fn other_item(&self, task_id: TaskId, line: u64, record: &Record) -> Refusal {
        let key = &record.key;
        let first = self.inputs.get(&task_id);
        let differing = first.into_iter().flat_map(|first| {
            let keys = first
                .keys()
                .chain(record.input.keys().filter(|k| !first.contains_key(*k)));
            keys.filter(|key| first.get(*key) != record.input.get(*key))
                .map(String::as_str)
        });
        let differing: Vec<&str> = differing.collect();
        let differing = match (first, differing.as_slice()) {
            (Some(_), []) => "other labels or another known answer".to_owned(),
            (Some(_), names) => format!("another {}", listed(names)),
            (None, _) => "another content".to_owned(),
        };
        let refusal = Refusal::new(format!("id `{key}` as in row {line}, and {differing}"));
        refusal.hint(
            "ids name one item each; what belongs to a judgement and not to the item is left out by \
             naming the item's keys, as --map text=text",
        )
    }

    fn count(&mut self, task_id: TaskId) -> bool {
        let step = &self.import.step;
        let most = step.most_submissions().or_else(|| step.slots());
        let Some(first) = self.tasks.get_mut(&task_id) else {
            return false;
        };
        first.judgements = first.judgements.saturating_add(1);
        most.is_some_and(|most| first.judgements == most.saturating_add(1))
    }

    fn require_role(&self) -> Result<(), ImportFault> {
        let step = &self.import.step;
        let (wanted, given) = (step.required_roles(), &self.import.mapping.roles);
        if wanted.is_empty() || wanted.iter().any(|role| given.contains(role)) {
            return Ok(());
        }
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        Err(ImportFault::Usage(format!(
            "the step `{}` takes work only from people with one of the roles {}; say that these had \
             it: --role {}",
            step.id,
            listed(&wanted),
            wanted[0]
        )))
    }

    fn submission(
        &self,
        task_id: TaskId,
        judgement: &Judgement,
        input: &Value,
    ) -> Result<ImportedCommand, Refusal> {
        let Import {
            mapping,
            question,
            step,
            ..
        } = self.import;
        let user = judgement.user.as_ref().or(mapping.user.as_ref()).ok_or_else(|| {
            Refusal::new("nobody is named who gave this answer").hint(
                "--user-field NAME says where the person is, --user NAME who it was; --as-gold makes \
                 the answers known ones, and --only-tasks leaves them out",
            )
        })?;
        let user_id = UserId::of_key(&format!("{}{user}", mapping.user_prefix));
        let data = question.data(&judgement.parts)?;
        question.check(&data, input)?;
        let mut annotation = Map::new();
        annotation.insert("user_id".to_owned(), user_id.to_string().into());
        annotation.insert("data".to_owned(), data);
        if let Some(time) = &judgement.submitted_at {
            annotation.insert("submitted_at".to_owned(), time.clone().into());
        }
        if !mapping.roles.is_empty() {
            annotation.insert("roles".to_owned(), json!(mapping.roles));
        }
        let mut fields = Map::new();
        // Named, so that a late one never lands in a step that comes after.
        fields.insert("step_id".to_owned(), step.id.to_string().into());
        fields.insert("annotation".to_owned(), Value::Object(annotation));
        command("submission", task_id, fields)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use glyph_workflow_engine::{
        config::{StepConfig, StepType},
        ids::Slug,
    };

    use super::*;
    use crate::operations::import::{
        mapping::{MapTarget, Mapping, parse_map},
        reading::ImportRequest,
    };

    fn step(answer: &Value) -> StepConfig {
        let mut step = StepConfig::new(Slug::new("annotate").unwrap(), StepType::Annotation);
        step.completion =
            serde_json::from_value(json!({"type": "annotation_count", "count": 2})).unwrap();
        step.consensus = serde_json::from_value(answer.clone()).unwrap();
        step
    }

    struct Case {
        file: tempfile::NamedTempFile,
        mapping: Mapping,
        step: StepConfig,
    }

    impl Case {
        fn new(content: &str, mapping: Mapping) -> Self {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(content.as_bytes()).unwrap();
            Self {
                file,
                mapping,
                step: step(&json!({"field": "label"})),
            }
        }

        fn open(&self) -> Result<Import, ImportFault> {
            Import::open(ImportRequest {
                file: self.file.path(),
                format: None,
                mapping: self.mapping.clone(),
                workflow: "w".to_owned(),
                step: &self.step,
            })
        }

        fn all(&self) -> Vec<Gathered> {
            let import = self.open().unwrap();
            Imported::of(&import).unwrap().map(Result::unwrap).collect()
        }

        /// The bodies of all commands, and the refusals.
        fn commands(&self) -> (Vec<Value>, Vec<Refusal>) {
            let all = self.all();
            let bodies = all.iter().flat_map(|g| &g.commands);
            let bodies = bodies
                .map(|c| serde_json::from_str(&c.body).unwrap())
                .collect();
            (bodies, all.into_iter().flat_map(|g| g.refused).collect())
        }
    }

    fn mapping() -> Mapping {
        Mapping {
            id_field: Some("id".to_owned()),
            ..Mapping::default()
        }
    }

    fn judged() -> Mapping {
        Mapping {
            user_field: Some("who".to_owned()),
            answer_fields: vec!["label".to_owned()],
            ..mapping()
        }
    }

    #[test]
    fn a_task_is_started_once_and_every_row_is_a_submission() {
        let case = Case::new(
            "id,text,who,label\n1,a,ann,x\n2,b,ann,y\n1,a,bob,x\n1,a,cleo,x\n",
            judged(),
        );
        let (commands, refused) = case.commands();
        assert_eq!(refused, []);
        let types: Vec<_> = commands
            .iter()
            .map(|c| c["type"].as_str().unwrap())
            .collect();
        assert_eq!(
            types,
            [
                "start",
                "submission",
                "start",
                "submission",
                "submission",
                "submission"
            ]
        );
        assert_eq!(commands[0]["input"], json!({"id": "1", "text": "a"}));
        assert_eq!(commands[0]["task_id"], json!(TaskId::of_key("1")));
        let annotation = &commands[1]["annotation"];
        assert_eq!(annotation["user_id"], json!(UserId::of_key("ann")));
        assert_eq!(annotation["data"], json!({"label": "x"}));
        assert_eq!(commands[1]["step_id"], "annotate");
        let crowded = case.all().iter().filter(|g| g.is_crowded).count();
        assert_eq!(crowded, 1, "two are asked for, and one task has three");
        assert_eq!(
            case.commands(),
            (commands, refused),
            "the same file is the same commands"
        );
    }

    #[test]
    fn rows_of_one_task_must_agree_about_the_item() {
        let case = Case::new(
            "id,text,who,label,took\n1,a,ann,x,3\n1,a,bob,x,4\n",
            judged(),
        );
        let (commands, refused) = case.commands();
        assert_eq!(commands.len(), 2);
        assert_eq!(refused[0].line, Some(3));
        assert!(
            refused[0]
                .reason
                .contains("as in row 2, and another `took`"),
            "{refused:?}"
        );
        let named = Mapping {
            maps: vec![(MapTarget::Input("text".into()), "text".into())],
            ..judged()
        };
        assert_eq!(
            Case::new("id,text,who,label,took\n1,a,ann,x,3\n1,a,bob,x,4\n", named)
                .commands()
                .1,
            []
        );
    }

    #[test]
    fn answers_are_checked_with_the_question_of_the_step() {
        let mut case = Case::new(
            "{\"id\":1,\"who\":\"a\",\"label\":[{\"start\":0,\"end\":3,\"tag\":\"P\"}]}\n\
             {\"id\":2,\"who\":\"a\",\"label\":[{\"start\":3,\"end\":0}]}\n{\"id\":3,\"who\":\"a\"}\n",
            judged(),
        );
        case.step = step(&json!({"field": "label", "metric": "span_f1"}));
        let (commands, refused) = case.commands();
        assert_eq!(
            commands.len(),
            3,
            "the second task is started, its answer is not sent"
        );
        let lines: Vec<_> = refused.iter().map(|r| r.line).collect();
        assert_eq!(lines, [Some(2), Some(3)]);
        assert!(refused[0].reason.contains("label[0]"), "{refused:?}");
        assert!(
            refused[1].hint.as_deref().unwrap().contains("there are"),
            "{refused:?}"
        );
    }

    #[test]
    fn only_parts_of_a_file_can_be_wanted() {
        let content = "id,text,who,label\n1,a,ann,x\n";
        let types = |mapping: Mapping| -> Vec<Value> {
            Case::new(content, mapping)
                .commands()
                .0
                .iter()
                .map(|c| c["type"].clone())
                .collect()
        };
        let only = |only: ImportOnly| Mapping { only, ..judged() };
        assert_eq!(types(only(ImportOnly::Tasks)), ["start"]);
        assert_eq!(types(only(ImportOnly::Answers)), ["submission"]);
        let gold = Mapping {
            as_gold: true,
            user_field: None,
            ..judged()
        };
        let (commands, _) = Case::new(content, gold).commands();
        assert_eq!(
            (commands.len(), &commands[0]["expected"]),
            (1, &json!({"label": "x"}))
        );
        let known = Mapping {
            expected_field: Some("label".to_owned()),
            labels: [("set".to_owned(), "dev".to_owned())].into(),
            label_fields: vec!["who".to_owned()],
            key_prefix: "p/".to_owned(),
            ..mapping()
        };
        let (commands, _) = Case::new(content, known).commands();
        assert_eq!(commands[0]["expected"], json!({"label": "x"}));
        assert_eq!(commands[0]["labels"], json!({"set": "dev", "who": "ann"}));
        assert_eq!(commands[0]["task_id"], json!(TaskId::of_key("p/1")));
        assert_eq!(commands[0]["input"], json!({"id": "1", "text": "a"}));
    }

    #[test]
    fn what_the_options_leave_open_is_asked_for() {
        let fault =
            |content: &str, mapping: Mapping| Case::new(content, mapping).open().unwrap_err();
        let table = "id,text,lable\n1,a,x\n";
        let usage = |fault: ImportFault| match fault {
            ImportFault::Usage(why) => why,
            ImportFault::File(why) => panic!("{why}"),
        };
        assert!(
            usage(fault(table, Mapping::default()))
                .contains("the columns are `id`, `text`, `lable`")
        );
        let file = fault(
            table,
            Mapping {
                answer_fields: vec!["label".to_owned()],
                ..mapping()
            },
        );
        let file = file.to_string();
        assert!(
            file.contains("no column `label`; did you mean `lable`?"),
            "{file}"
        );
        let nobody = Mapping {
            answer_fields: vec!["lable".to_owned()],
            ..mapping()
        };
        assert!(usage(fault(table, nobody)).contains("--user-field"));
        let nothing = Mapping {
            user: Some("ann".to_owned()),
            ..mapping()
        };
        assert!(usage(fault(table, nothing)).contains("--answer-field"));
        let keys = usage(fault("{\"ID\":1,\"text\":\"a\"}\n", Mapping::default()));
        assert!(keys.contains("the first row has `ID`, `text`"), "{keys}");
        let pixels = Mapping {
            pixels: true,
            ..mapping()
        };
        assert!(usage(fault(table, pixels)).contains("Label Studio"));
        let mut case = Case::new("id,who,label\n1,ann,x\n", judged());
        case.step.assignment =
            serde_json::from_value(json!({"required_roles": ["expert"]})).unwrap();
        let import = case.open().unwrap();
        let found = Imported::of(&import).unwrap().next().unwrap().unwrap_err();
        assert!(usage(found).contains("--role expert"));
    }

    #[test]
    fn tools_are_recognised_and_their_names_can_be_mapped() {
        let tool = json!([{
            "id": 5, "data": {"text": "t", "ref": "r"},
            "annotations": [{"id": 1, "completed_by": 2, "result": [
                {"id": "a", "type": "choices", "from_name": "mood", "value": {"choices": ["good"]}},
                {"id": "b", "type": "choices", "from_name": "topic", "value": {"choices": ["cars"]}},
            ]}],
        }]);
        let with = |mapping: Mapping| Case::new(&tool.to_string(), mapping).commands();
        let (_, refused) = with(Mapping::default());
        assert_eq!(
            (refused[0].line, refused[0].place.as_deref()),
            (Some(1), Some("annotation 1"))
        );
        assert!(
            refused[0]
                .hint
                .as_deref()
                .unwrap()
                .contains("--answer-field")
        );
        let main = Mapping {
            answer_fields: vec!["topic".to_owned()],
            ..Mapping::default()
        };
        let (commands, _) = with(main);
        assert_eq!(
            commands[1]["annotation"]["data"],
            json!({"label": "cars", "mood": "good"})
        );
        let maps = ["answer.label=mood", "item=ref", "label.topic=text"];
        let mapped = Mapping {
            maps: maps.iter().map(|map| parse_map(map).unwrap()).collect(),
            ..Mapping::default()
        };
        let (commands, _) = with(mapped);
        assert_eq!(commands[0]["input"], json!({"item": "r"}));
        assert_eq!(commands[0]["labels"], json!({"topic": "t"}));
        assert_eq!(commands[1]["annotation"]["data"], json!({"label": "good"}));
        assert_eq!(
            commands[1]["annotation"]["user_id"],
            json!(UserId::of_key("2"))
        );
    }
}
