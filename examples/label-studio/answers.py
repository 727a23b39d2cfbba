"""Between Label Studio and a step of a workflow: what the step asks, what the labelling interface records, and the one as the other.

Values are written as `glyph task import` writes those of an export: controls are answers by their names, percent stay percent, and
offsets of texts count code points.
"""

import dataclasses
import difflib
import math
import xml.etree.ElementTree as ElementTree

REGIONS = ("spans", "segments", "boxes", "polygons")
LISTS = ("set", "ranking")
SCALARS = ("category", "ordinal")
# What a result of a control that marks nothing has under the key of its value; its coordinates are those of the region it is about.
CHOICES = ("choices", "taxonomy", "textarea", "pairwise", "rating", "number", "datetime")
RATING_MAX = 5  # of a `Rating` without `maxRating`


class Unmapped(Exception):
    """An annotation that is no answer to the step, with the reason for people."""


# --- what a step asks ---


@dataclasses.dataclass(frozen=True)
class Shape:
    """How one answer is written. `values` are the possible ones, none where anything goes."""

    kind: str
    tag: str = "tag"
    xywh: bool = False
    values: tuple = ()
    low: float = -math.inf
    high: float = math.inf

    @property
    def takes_regions(self):
        return self.kind in REGIONS

    def suits(self, part):
        if isinstance(part, Regions):
            return self.takes_regions or self.kind == "any"
        return not (isinstance(part, Chosen) and self.takes_regions)

    def fit(self, part):
        """The part as the step asks for it; none where nothing was chosen."""
        if isinstance(part, Regions):
            if not self.suits(part):
                raise Unmapped(f"regions were marked, and the step asks for {self.kind}")
            return [region.written(self) for region in part.regions]
        if not isinstance(part, Chosen):
            return part
        if not part.values:
            return None
        if self.takes_regions:
            raise Unmapped(f"something was chosen, and the step asks for {self.kind}")
        if self.kind in LISTS:
            return list(part.values)
        if len(part.values) > 1 and self.kind != "any":
            raise Unmapped(f"{len(part.values)} values were given, and the step asks for one")
        return part.values[0] if len(part.values) == 1 else list(part.values)


# As tools write it: what a step does not ask for is kept so.
UNASKED = Shape("any", tag="label", xywh=True)


def shape_of(schema, kind=None):
    """The shape of an answer by its JSON Schema. `kind` is what the step calls it, where it says so."""
    schema = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
    items = schema.get("items", {})
    properties = items.get("properties", {})
    values = tuple(schema.get("enum", items.get("enum", ())))
    if properties:
        coordinates = {"start", "end", "x", "y", "width", "height", "x1", "y1", "x2", "y2", "points"}
        tag = next((key for key in properties if key not in coordinates), "tag")
        values = tuple(properties.get(tag, {}).get("enum", ()))
        if "points" in properties:
            kind = "polygons"
        elif "start" in properties:
            kind = "spans" if properties["start"].get("type") == "integer" else "segments"
        else:
            kind = "boxes"
        return Shape(kind, tag, "width" in properties, values)
    if schema.get("type") == "array":
        return Shape("ranking" if "minItems" in schema else "set", values=values)
    if schema.get("type") == "number":
        return Shape("number", low=schema.get("minimum", -math.inf), high=schema.get("maximum", math.inf))
    if schema.get("type") == "string":
        return Shape("text")
    if values or isinstance(schema.get("type"), list):
        return Shape(kind if kind in SCALARS else "category", values=values)
    return UNASKED


class Question:
    """What a step asks, as `GET /workflows/{id}/answers` says it. `config` is the step in the workflow, for what no schema says."""

    def __init__(self, step, config):
        self.kind = step["kind"]
        self.field = step["field"]
        self.is_record = self.kind == "record"
        inner = step["schema"]
        for key in (self.field or "").split(".") if self.field else ():
            inner = inner["properties"][key]
        self.shape = None if self.is_record else shape_of(inner, self.kind)
        self.fields, self.required = {}, set()
        if self.is_record:
            self.read_fields(inner, "")
        answer = (config or {}).get("answer") or {}
        # Where the text of spans is, as a path from `input`.
        self.texts = {path: field.get("text") for path, field in (answer.get("fields") or {}).items()}
        self.texts[self.field] = answer.get("text")

    def read_fields(self, schema, prefix):
        for key, inner in schema["properties"].items():
            path = prefix + key
            if "properties" in inner:
                self.read_fields(inner, path + ".")
            else:
                self.fields[path] = shape_of(inner)
                if key in schema.get("required", ()):
                    self.required.add(path)

    @property
    def takes_all(self):
        """Whether the answer is all of the data, whatever keys it has."""
        return not self.is_record and self.field is None and self.shape.kind == "any"

    def data(self, parts):
        """`annotation.data` of the parts of an annotation by their controls. Nothing marked is an answer too: an empty list."""
        return self.record(parts) if self.is_record else self.single(parts)

    def record(self, parts):
        data = None
        prefix = f"{self.field}." if self.field else ""
        for name, part in sorted(parts.items()):
            path = name.removeprefix(prefix)
            shape = self.fields.get(path)
            value = (shape or UNASKED).fit(part)
            if value is not None:
                data = insert(data, prefix + path if shape else name, value)
        for path, shape in self.fields.items():
            if shape.takes_regions and not holds(data, prefix + path):
                data = insert(data, prefix + path, [])
        return data

    def single(self, parts):
        main = self.main(parts)
        fitted = self.shape.fit(parts[main]) if main is not None else None
        if fitted is None and self.shape.takes_regions:
            fitted = []
        data = None
        if self.field is None:
            if not self.takes_all:
                return fitted
            for name, part in sorted(parts.items()):
                value = self.shape.fit(part)
                data = data if value is None else insert(data, name, value)
            return data
        if fitted is not None:
            data = insert(data, self.field, fitted)
        for name, part in sorted(parts.items()):
            if name != main and not holds(data, name.split(".")[0]):
                value = UNASKED.fit(part)
                data = data if value is None else insert(data, name, value)
        return data

    def main(self, names):
        """The control that is the answer: the one that has its name, or the only one that can be meant."""
        if self.field is not None:
            for own in (self.field, self.field.rsplit(".", 1)[-1]):
                if own in names:
                    return own
        elif self.takes_all:
            return None
        suiting = [name for name, part in names.items() if self.shape.suits(part)]
        if len(suiting) > 1:
            raise Unmapped(f"any of {listed(suiting)} may be the answer; name the control that is `{self.field or 'answer'}`")
        return suiting[0] if suiting else None


def insert(data, path, value):
    """Puts a value at a path of keys with dots between them."""
    data = {} if data is None else data
    place = data
    *keys, last = path.split(".")
    for key in keys:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise Unmapped(f"`{path}` leads through a value that is no object")
    place[last] = value
    return data


def holds(data, path):
    for key in path.split("."):
        if not isinstance(data, dict) or key not in data:
            return False
        data = data[key]
    return True


def listed(names):
    return ", ".join(f"`{name}`" for name in names)


# --- what an annotation recorded ---


@dataclasses.dataclass(frozen=True)
class Chosen:
    values: list


@dataclasses.dataclass(frozen=True)
class Regions:
    regions: list


@dataclasses.dataclass
class Region:
    """`place` is the coordinates as a dictionary: start and end, points, or x, y, width, height and rotation."""

    place: dict
    label: object = None
    attributes: dict = dataclasses.field(default_factory=dict)

    def written(self, shape):
        place = dict(self.place)
        rotation = place.pop("rotation", 0)
        is_box = "width" in place
        if is_box and shape.kind == "polygons":
            place = {"points": corners(place, rotation)}
        elif is_box and shape.kind != "any":
            if rotation:
                raise Unmapped(f"a box is rotated by {rotation}°, and boxes are upright; ask for `kind: polygons`")
            if not shape.xywh:
                x, y = place["x"], place["y"]
                place = {"x1": x, "y1": y, "x2": x + place["width"], "y2": y + place["height"]}
        elif is_box and rotation:
            place["rotation"] = rotation
        if "points" in place and shape.kind == "boxes":
            raise Unmapped("a polygon, and the step asks for boxes")
        tag = {} if self.label is None else {shape.tag: self.label}
        return self.attributes | place | tag


def corners(box, rotation):
    """The corners of a rectangle, clockwise from its first."""
    x, y, width, height = box["x"], box["y"], box["width"], box["height"]
    sin, cos = math.sin(math.radians(rotation)), math.cos(math.radians(rotation))
    sides = ((0, 0), (width, 0), (width, height), (0, height))
    if not rotation:
        return [[x + dx, y + dy] for dx, dy in sides]
    return [[x + dx * cos - dy * sin, y + dx * sin + dy * cos] for dx, dy in sides]


def parts_of(results, text_of, pixels):
    """The parts of an annotation by their controls. `text_of` gives the text that an object of the interface shows."""
    parts, regions = {}, {}
    entries = [entry for entry in results if entry.get("type") != "relation"]
    for entry in entries:
        if not isinstance(entry.get("value"), dict) or not entry.get("from_name"):
            raise Unmapped(f"a result of type `{entry.get('type')}` has no `value` or no control")
    marks = [entry for entry in entries if entry["type"] not in CHOICES]
    for entry in marks:
        place = place_of(entry, text_of, pixels)
        kept = {key: entry["value"][key] for key in ("text", "channel", "score") if key in entry["value"]}
        text = text_of(entry.get("to_name"))
        if text is not None and "text" in kept and "start" in place:
            kept["text"] = text[place["start"] : place["end"]]  # a quotation has no line breaks
        labels = entry["value"].get(entry["type"]) or [None]
        # What has two classes is two regions.
        made = [Region(dict(place), label, dict(kept)) for label in labels]
        parts.setdefault(entry["from_name"], Regions([])).regions.extend(made)
        regions.setdefault(entry.get("id"), made[0])
    for entry in entries:
        if entry["type"] not in CHOICES:
            continue
        part = chosen(entry)
        region = regions.get(entry.get("id")) if entry.get("id") else None
        if region is not None:
            # A question asked of a region has the region's id.
            region.attributes[entry["from_name"]] = UNASKED.fit(part)
        elif isinstance(part, Chosen) and isinstance(parts.get(entry["from_name"]), Chosen):
            parts[entry["from_name"]].values.extend(part.values)
        else:
            parts[entry["from_name"]] = part
    return parts


def chosen(entry):
    """What a control that marks nothing recorded."""
    kind, value = entry["type"], entry["value"]
    key = {"textarea": "text", "pairwise": "selected"}.get(kind, kind)
    if key not in value:
        raise Unmapped(f"the control `{entry['from_name']}` recorded `{kind}` without `{key}`")
    recorded = value[key]
    if kind == "taxonomy":
        return Chosen(["/".join(path) for path in recorded])
    return Chosen(list(recorded)) if isinstance(recorded, list) else recorded


def place_of(entry, text_of, pixels):
    kind, value = entry["type"], entry["value"]
    try:
        if kind == "rectanglelabels":
            across, down = scale_of(entry, pixels)
            place = {"x": value["x"] * across, "y": value["y"] * down, "width": value["width"] * across, "height": value["height"] * down}
            return place | ({"rotation": value["rotation"]} if value.get("rotation") else {})
        if kind == "polygonlabels":
            across, down = scale_of(entry, pixels)
            return {"points": [[x * across, y * down] for x, y in value["points"]]}
        if kind == "labels" and "startOffset" not in value and "start" in value and "end" in value:
            return stretch(entry, text_of)
    except (KeyError, TypeError, ValueError) as error:
        raise Unmapped(f"a region of the control `{entry['from_name']}` has no coordinates that can be read: {error}") from error
    raise Unmapped(f"the control `{entry['from_name']}` recorded `{kind}`, for which there is no kind of answer")


def scale_of(entry, pixels):
    """Label Studio counts in percent of the picture."""
    if not pixels:
        return 1, 1
    return entry["original_width"] / 100, entry["original_height"] / 100


def stretch(entry, text_of):
    value, quoted = entry["value"], entry["value"].get("text")
    text = text_of(entry.get("to_name"))
    if text is None:
        return {"start": value["start"], "end": value["end"]}
    start, end = int(value["start"]), int(value["end"])
    place = (start, end) if quoted is None else code_points(text, start, end, quoted)
    if place is None:
        raise Unmapped(f"a span quotes {quoted!r}, and {start} to {end} of the text in Glyph is something else")
    return {"start": place[0], "end": place[1]}


def code_points(text, start, end, quoted):
    """Offsets in code points, of offsets that count them or the units of UTF-16; none where neither marks what is quoted."""
    if is_quoted(text[start:end], quoted):
        return start, end
    units = text.encode("utf-16-le")
    try:
        before, marked = units[: 2 * start].decode("utf-16-le"), units[2 * start : 2 * end].decode("utf-16-le")
    except UnicodeDecodeError:  # inside a character of two units
        return None
    return (len(before), len(before) + len(marked)) if is_quoted(marked, quoted) else None


def is_quoted(marked, quoted):
    """Whether a quotation is what is marked. Label Studio writes line breaks in it as a backslash and an n, and browsers join spaces."""
    return marked == quoted or "".join(marked.split()) == "".join(quoted.replace("\\n", "\n").split())


# --- what the labelling interface can record ---


@dataclasses.dataclass
class Control:
    """`part` is what it records, as an example; `values` what it offers, none where anybody writes anything."""

    name: str
    element: str
    part: object
    kinds: tuple
    values: list = None
    many: bool = False
    required: bool = False
    to_name: str = ""


class Interface:
    """The controls of a labelling configuration that are answers, and what is wrong with the others."""

    def __init__(self, config):
        self.controls, self.objects, self.faults, self.warnings = {}, {}, [], []
        try:
            root = ElementTree.fromstring(config)
        except ElementTree.ParseError as error:
            self.faults.append(f"the labelling interface is no XML: {error}")
            return
        for element in root.iter():
            if element.get("name") and (element.get("value") or element.get("valueList")) and not element.get("toName"):
                self.objects[element.get("name")] = (element.tag, (element.get("value") or "").removeprefix("$"))
        for element in root.iter():
            if element.tag == "Relations":
                self.warnings.append("relations between regions are not carried over: no kind of answer has them")
            elif element.get("name") and element.get("toName"):
                self.add(element)

    def text_key(self, name):
        """The key of the task's data that an object shows as a text."""
        element, key = self.objects.get(name, ("", None))
        return key if element == "Text" else None

    def add(self, element):
        name, tag = element.get("name"), element.tag
        if element.get("perRegion") == "true":
            return  # becomes a key of the region
        control = {
            "Choices": choices_control, "Taxonomy": taxonomy_control, "TextArea": text_control, "Rating": rating_control,
            "Number": number_control, "DateTime": date_control, "Pairwise": pairwise_control,
            "Labels": self.labels_control, "RectangleLabels": region_control("boxes", "polygons"), "PolygonLabels": region_control("polygons"),
        }.get(tag)
        made = control(element) if control else f"`{tag}` has no kind of answer"
        if isinstance(made, str):
            self.faults.append(f"the control `{name}`: {made}; take it out of the labelling interface")
            return
        made.required = element.get("required") == "true"
        made.to_name = element.get("toName")
        self.controls[name] = made

    def labels_control(self, element):
        shown = self.objects.get(element.get("toName"), ("nothing",))[0]
        kinds = {"Text": "spans", "Audio": "segments", "AudioPlus": "segments"}.get(shown)
        if kinds is None:
            return f"labels on `{shown}` have no kind of answer"
        return Control(element.get("name"), element.tag, Regions([]), (kinds,), values_of(element, "Label"))

    def check(self, question):
        """What cannot work between the interface and a step, as sentences; `warnings` may work."""
        faults, warnings = list(self.faults), list(self.warnings)
        if question.is_record:
            prefix = f"{question.field}." if question.field else ""
            names = {name.removeprefix(prefix): control for name, control in self.controls.items()}
            for path, shape in question.fields.items():
                if path in names:
                    faults += check_pair(path, shape, names[path], path in question.required, question.texts.get(path), self, warnings)
                elif path in question.required:
                    faults.append(absent(path, names))
            beside = [name for name in names if name not in question.fields]
        else:
            try:
                main = question.main({name: control.part for name, control in self.controls.items()})
            except Unmapped as error:
                return faults + [str(error)], warnings
            beside = [name for name in self.controls if name != main]
            if question.takes_all:
                if not self.controls:
                    faults.append("the labelling interface has no control that is an answer")
                beside = []
            elif main is None:
                faults.append(absent(question.field or question.kind, self.controls))
            else:
                faults += check_pair(main, question.shape, self.controls[main], True, question.texts.get(question.field), self, warnings)
            if beside and question.field is None:
                faults.append(f"the answer has no place for {listed(beside)}: take them out, or give the step's answer a `field`")
                beside = []
        if beside:
            warnings.append(f"the step does not ask for {listed(beside)}: kept in the data, and not compared")
        return faults, warnings


def absent(path, names):
    near = difflib.get_close_matches(path, names, 1)
    hint = f"did you mean `{near[0]}`?" if near else f"there are {listed(names)}" if names else "there is none"
    return f"the step asks for `{path}`, and no control has that name; {hint}"


def check_pair(path, shape, control, is_required, text, interface, warnings):
    """What cannot work between one answer and its control."""
    faults, name = [], f"the control `{control.name}`"
    if shape.kind != "any" and shape.kind not in control.kinds:
        return [f"{name} is a `{control.element}`, which gives {' or '.join(control.kinds)}, and the step asks for {shape.kind} in `{path}`"]
    if control.many and shape.kind not in LISTS and shape.kind != "any":
        attribute = {"Choices": 'choice="single"', "TextArea": 'maxSubmissions="1"', "Taxonomy": 'maxUsages="1"'}[control.element]
        faults.append(f"{name} takes several values, and the step asks for one in `{path}`: add {attribute}")
    if shape.values:
        if control.values is None:
            faults.append(f"{name} takes any value, and `{path}` takes only {listed(shape.values)}")
        else:
            wrong = [value for value in control.values if not any(value == known and type(value) is type(known) for known in shape.values)]
            missing = [value for value in shape.values if value not in control.values]
            if wrong:
                faults.append(f"{name} offers {listed(map(repr, wrong))}, which `{path}` does not take; it takes {listed(map(repr, shape.values))}")
            elif missing:
                warnings.append(f"{name} does not offer {listed(map(repr, missing))}, which `{path}` may be")
    if shape.kind == "number" and control.values and not all(shape.low <= value <= shape.high for value in control.values):
        faults.append(f"{name} gives {control.values[0]} to {control.values[-1]}, and `{path}` takes {shape.low} to {shape.high}")
    if text and shape.kind == "spans" and text.removeprefix("input.") != interface.text_key(control.to_name):
        faults.append(f"{name} marks `${interface.text_key(control.to_name)}` of the task, and `{path}` is about `{text}`")
    if is_required and not control.required and not shape.takes_regions:
        warnings.append(f'{name} can be left empty, and Glyph refuses an answer without `{path}`: add required="true"')
    return faults


def values_of(element, tag):
    """What is offered; none where it depends on the task (`value="$options"`)."""
    if (element.get("value") or "").startswith("$"):
        return None
    return [inner.get("alias") or inner.get("value") for inner in element.iter(tag)]


def region_control(*kinds):
    return lambda element: Control(element.get("name"), element.tag, Regions([]), kinds, values_of(element, "Label"))


def choices_control(element):
    if element.get("allowNested") == "true":
        return 'nested choices have no kind of answer: use `Taxonomy`, or leave out `allowNested`'
    many = element.get("choice") == "multiple"
    return Control(element.get("name"), element.tag, Chosen([]), ("category", "ordinal", "text", "set"), values_of(element, "Choice"), many)


def taxonomy_control(element):
    paths = []

    def walk(inner, path):
        for choice in inner.findall("Choice"):
            here = [*path, choice.get("alias") or choice.get("value")]
            has_children = choice.find("Choice") is not None
            if not (has_children and element.get("leafsOnly") == "true"):
                paths.append("/".join(here))
            walk(choice, here)

    walk(element, [])
    values = None if (element.get("value") or element.get("apiUrl")) else paths
    return Control(element.get("name"), element.tag, Chosen([]), ("category", "ordinal", "text", "set"), values, element.get("maxUsages") != "1")


def text_control(element):
    return Control(element.get("name"), element.tag, Chosen([]), ("text", "category", "set"), many=element.get("maxSubmissions") != "1")


def rating_control(element):
    values = list(range(1, int(element.get("maxRating") or RATING_MAX) + 1))
    return Control(element.get("name"), element.tag, 0, ("number", "ordinal", "category"), values)


def number_control(element):
    bounds = [float(element.get(key)) for key in ("min", "max") if element.get(key)]
    return Control(element.get("name"), element.tag, 0, ("number",), bounds if len(bounds) == 2 else None)


def date_control(element):
    return Control(element.get("name"), element.tag, "", ("text", "category"))


def pairwise_control(element):
    return Control(element.get("name"), element.tag, "", ("category", "text"), ["left", "right"])
