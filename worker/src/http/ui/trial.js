// Trial: a made-up crowd works on made-up tasks of a workflow, with sliders for people and settings.

import { Problem, get, getText, post } from './api.js'
import { badge, h, number, percent, s, show, table, workflowLink } from './dom.js'
import { diagram } from './diagram.js'

/** How long a slider rests before the trial is played. */
const REST = 250

const share = value => percent(value)
/** What is said of people, as the crowd of a request. */
const CROWD = [
  { name: 'people', label: 'Annotators', min: 1, max: 30, step: 1, value: 5, text: number },
  { name: 'accuracy', label: 'An annotator is right', min: 0.3, max: 1, step: 0.01, value: 0.85, text: share },
  { name: 'spread', label: 'Best and worst are off by', min: 0, max: 0.3, step: 0.01, value: 0.1, text: share },
  { name: 'hard', label: 'Hard tasks, where they guess', min: 0, max: 0.5, step: 0.01, value: 0.05, text: share },
  { name: 'expert_accuracy', label: 'A reviewer or adjudicator is right', min: 0.5, max: 1, step: 0.01, value: 0.97, text: share },
  { name: 'tasks', label: 'Tasks', min: 50, max: 1000, step: 50, value: 200, text: number },
]

/** The settings of a workflow that sliders change, by their paths. */
function settingsOf(config) {
  const found = []
  for (const step of config.steps) {
    const { completion = {}, consensus } = step
    const add = (path, label, range) => found.push({ name: `steps.${step.id}.${path}`, label: `${step.id}: ${label}`, ...range })
    if (completion.type === 'annotation_count') add('completion.count', 'people asked', { min: 1, max: 10, step: 1, value: completion.count ?? 1, text: number })
    if (completion.type === 'confidence') {
      add('completion.target', 'sure enough at', { min: 0.5, max: 0.99, step: 0.01, value: completion.target, text: share })
      add('completion.min', 'people asked at least', { min: 1, max: 10, step: 1, value: completion.min ?? 1, text: number })
      add('completion.max', 'people asked at most', { min: 1, max: 20, step: 1, value: completion.max ?? 10, text: number })
    }
    if (consensus && completion.type !== 'confidence') add('consensus.threshold', 'agreement asked for', { min: 0, max: 1, step: 0.01, value: consensus.threshold ?? 0.8, text: share })
  }
  return found
}

export async function view(ctx, place) {
  const selector = ctx.parts[0] ?? ''
  const one = await get(`workflows/${encodeURIComponent(selector)}`, {}, ctx.signal)
  const drawing = await getText(`workflows/${one.id}/diagram`, ctx.signal)
  ctx.title(`Trial of ${one.workflow}`)
  const settings = settingsOf(one.config)
  const chosen = new Map([...CROWD, ...settings].map(slider => [slider.name, slider.value]))
  const results = h('div', { class: 'stack', 'aria-live': 'polite' })
  const page = { ctx, one, drawing, settings, chosen, results, stored: null, storedFor: '' }
  let rest, last
  const play = () => {
    clearTimeout(rest)
    rest = setTimeout(async () => {
      last?.abort()
      const mine = (last = new AbortController())
      await played(page, AbortSignal.any([mine.signal, ctx.signal]))
    }, REST)
  }
  const sliders = list => list.map(slider => range(slider, value => {
    chosen.set(slider.name, value)
    play()
  }))
  place.replaceChildren(h('div', { class: 'stack' },
    h('header', { class: 'head' }, h('h1', null, `Trial of ${one.config.name ?? one.workflow}`), h('code', { class: 'id' }, workflowLink(one.workflow, one.revision)),
      h('span', { class: 'dim' }, 'Made-up people and tasks, decided as a worker would. Nothing is stored.')),
    h('div', { class: 'columns trial' },
      h('form', { class: 'card sliders', 'aria-label': 'What to try' },
        h('h2', null, 'People'), sliders(CROWD),
        settings.length > 0 && [h('h2', null, 'The workflow'), sliders(settings)]),
      results)))
  show(results, h('p', { class: 'empty', role: 'status' }, 'Playing'))
  await played(page, ctx.signal)
}

function range({ name, label, min, max, step, value, text }, change) {
  const id = `trial-${name}`
  const shown = h('output', { for: id }, text(value))
  return h('div', { class: 'slider' }, h('label', { for: id }, label), shown,
    h('input', { id, name, type: 'range', min: String(min), max: String(max), step: String(step), value: String(value), oninput: event => {
      shown.textContent = text(Number(event.target.value))
      change(Number(event.target.value))
    } }))
}

/** What differs from the stored revision. */
const changed = ({ settings, chosen }) => Object.fromEntries(settings.filter(({ name, value }) => chosen.get(name) !== value).map(({ name }) => [name, chosen.get(name)]))

async function played(page, signal) {
  const crowd = Object.fromEntries(CROWD.map(({ name }) => [name, page.chosen.get(name)]))
  const set = changed(page)
  try {
    const ask = wanted => post(`workflows/${page.one.id}/trial`, { crowd, set: wanted }, { signal })
    const report = await ask(set)
    // With changed settings, the stored ones are what they are compared with.
    const key = JSON.stringify(crowd)
    if (Object.keys(set).length === 0) Object.assign(page, { stored: report, storedFor: key })
    else if (page.storedFor !== key) Object.assign(page, { stored: await ask({}), storedFor: key })
    show(page.results, result(page, report, set))
  } catch (error) {
    if (error.name === 'AbortError') return
    if (!(error instanceof Problem)) throw error
    show(page.results, h('p', { class: 'notice bad', role: 'alert' }, error.message))
  }
}

const perTask = report => report.labels / Math.max(1, report.tasks)

function result(page, report, set) {
  const { stored } = page
  const other = Object.keys(set).length > 0
  const tile = (label, of, text, tone) => h('div', { class: `tile ${tone ?? ''}` }, h('span', { class: 'label' }, label), h('strong', null, text(of(report))),
    other && h('span', null, `${text(of(stored))} as stored`))
  const of = key => one => one[key] / Math.max(1, one.tasks)
  const waits = new Map(report.steps.filter(step => step.visits > 0).map(step => [step.step_id, { count: step.submissions, title: `${step.submissions} submissions in ${step.visits} visits` }]))
  const going = report.ends.filter(end => end.status === 'running').reduce((sum, end) => sum + end.tasks, 0)
  return h('div', { class: 'stack' },
    h('section', { class: 'tiles', 'aria-label': 'What came of it' },
      tile('Labels a task', perTask, value => value.toFixed(2)), tile('Decided by experts, a task', of('decisions'), value => value.toFixed(2)),
      tile('Right in the end', of('right'), value => percent(value, 1)), tile('Wrong in the end', of('wrong'), value => percent(value, 1), report.wrong > 0 ? 'warn' : null),
      (report.without_value > 0 || stored.without_value > 0) && tile('Without a value', of('without_value'), value => percent(value, 1), 'bad'),
      report.by_machine > 0 && tile('Result of a machine, made up', of('by_machine'), value => percent(value, 1)),
      going > 0 && h('div', { class: 'tile bad' }, h('span', { class: 'label' }, 'Come to no end'), h('strong', null, percent(going / report.tasks, 1)), h('span', null, 'the table says where they wait'))),
    report.tasks < page.chosen.get('tasks') && h('p', { class: 'notice' }, `Time was up after ${number(report.tasks)} tasks.`),
    other && h('p', { class: 'dim' }, 'To keep it: ', h('code', null, Object.entries(set).map(([path, value]) => `${path}: ${value}`).join(', '))),
    other && page.ctx.may('operator') && h('div', { class: 'actions' }, h('button', { type: 'button', onclick: event => backtest(page, set, event.target) }, 'What would it have done with the recorded tasks?')),
    page.backtested?.for === JSON.stringify(set) && recorded(page.backtested.report),
    table('Where tasks end', ['End', 'By', 'Step', '#Tasks', '#Right', 'Because'], report.ends.map(end => [
      badge(end.status === 'running' ? 'waits' : end.status, end.status === 'running' ? 'bad' : undefined), end.resolved_by?.replaceAll('_', ' ') ?? '–', end.step ?? '–', number(end.tasks), end.status === 'completed' ? number(end.right) : '–',
      end.status === 'running' ? `waits for ${end.reason ?? 'nothing that is known'}` : end.reason ?? '']), { keys: report.ends.map(end => [end.status, end.resolved_by, end.step, end.reason].join('/')) }),
    h('section', null, h('h2', null, 'Labels that a task takes'), histogram(report.labels_by_tasks)),
    h('section', null, h('h2', null, 'Ways'), diagram(page.drawing, waits, report.edges.map(edge => ({ ...edge, title: `${edge.count} times` }))), h('p', { class: 'dim' }, 'At steps: submissions. On lines: how often tasks went along.')),
    table('Steps', ['Step', '#Tasks', '#Visits', '#Submissions', 'Agreed'], report.steps.map(step => [
      step.step_id, number(step.tasks), number(step.visits), number(step.submissions), step.compared > 0 ? `${number(step.agreed)} of ${number(step.compared)} (${percent(step.agreed / step.compared)})` : '–']),
    { keys: report.steps.map(step => step.step_id) }),
    notes('Made up, since the file does not say it', report.made_up), notes('Not played', report.not_played), notes('Refused although it seemed plausible', report.refused))
}

const notes = (title, lines) => lines.length > 0 && h('details', null, h('summary', null, `${title} (${lines.length})`), h('ul', { class: 'plain' }, lines.map(line => h('li', null, line))))

/** Bars of how many tasks took how many labels. */
function histogram(counts) {
  const width = 480, height = 120, bottom = height - 18
  const each = Math.min(60, width / counts.length)
  const most = Math.max(1, ...counts)
  const described = counts.map((tasks, labels) => tasks > 0 && `${tasks} tasks took ${labels}`).filter(Boolean).join(', ')
  return s('svg', { class: 'histogram', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': described },
    counts.map((tasks, labels) => {
      const size = (tasks / most) * (bottom - 16)
      const middle = labels * each + each / 2
      return [s('rect', { x: labels * each + 2, y: bottom - size, width: each - 4, height: size }),
        tasks > 0 && s('text', { x: middle, y: bottom - size - 4, 'text-anchor': 'middle' }, number(tasks)),
        s('text', { class: 'axis', x: middle, y: height - 4, 'text-anchor': 'middle' }, String(labels))]
    }))
}

async function backtest(page, set, button) {
  button.disabled = true
  await page.ctx.act('Backtest', async () => {
    const report = await post('backtests', { workflow: page.one.id, set }, { signal: page.ctx.signal })
    page.backtested = { for: JSON.stringify(set), report }
    await played(page, page.ctx.signal)
    return `${number(report.tasks)} recorded tasks were decided again`
  })
  button.disabled = false
}

function recorded({ recorded: before, simulated: after, answers, gold, read_to_end: whole, tasks, unknown }) {
  const right = of => (of.accuracy === null ? '–' : `${percent(of.accuracy, 1)} of ${number(of.answers)}`)
  const row = (label, of) => [label, of(before), of(after)]
  const mean = value => (value === null ? '–' : value.toFixed(2))
  return h('div', { class: 'stack' }, table(`Recorded tasks, decided again: ${number(tasks)}${whole ? '' : ', not all of the log'}`, ['', 'As recorded', 'With these settings'], [
    row('Annotations a task', side => mean(side.annotations_per_task)), row('Completed', side => number(side.completed)), row('Did not end', side => number(side.running)),
    row('Disagreements', side => number(side.disagreements)), row('Ended unsure', side => number(side.unsure)),
    ['Same answer', '', answers.both > 0 ? `${percent(answers.same / answers.both, 1)} of ${number(answers.both)}` : '–'], ['Right, where the answer is known', right(gold.recorded_of_both), right(gold.simulated_of_both)]]),
  notes('What the recording does not tell', unknown.map(one => `${one.text} (${number(one.tasks)} tasks)`)))
}
