// Workflows: the list; one with its drawing, what waits where and what went which way, its revisions and what changed.

import { Problem, get, getText, post } from './api.js'
import { ago, ask, badge, field, h, json, number, save, show, table, taskLink, workflowLink } from './dom.js'
import { diagram } from './diagram.js'
import { taskOfKey } from './keys.js'

/** How often the ways are read again, at most; and how long after something has happened they may still change. */
const FLOW_EVERY = 4000
const FLOW_TRAILS = 3000

export async function view(ctx, place) {
  if (!ctx.parts[0]) {
    await ctx.live(place, async () => list(ctx, await get('workflows', { archived: true }, ctx.signal)), 5)
    return
  }
  const [id, wanted] = ctx.parts[0].split('@')
  ctx.title(id)
  const page = { id, status: null, against: null, span: 'last_hour', flow: [], flowAt: 0, grownAt: Date.now() }
  const readFlow = async () => {
    page.flowAt = Date.now()
    page.flow = (await get(`workflows/${encodeURIComponent(id)}/flow`, {}, ctx.signal)).flow
  }
  const read = async () => {
    const [one, { workflows }] = await Promise.all([get(`workflows/${encodeURIComponent(ctx.parts[0])}`, {}, ctx.signal), get('workflows', { workflow: id }, ctx.signal), readFlow()])
    const drawing = page.drawing && page.one?.id === one.id ? page.drawing : await getText(`workflows/${one.id}/diagram`, ctx.signal)
    Object.assign(page, { one, revisions: workflows, drawing })
    page.before = workflows.find(other => other.revision === (page.against ?? one.revision - 1))
    page.changes = page.before && (await get(`workflows/${page.before.id}/diff`, { to: one.id }, ctx.signal)).changes
  }
  const draw = () => {
    if (!ctx.signal.aborted) show(place, whole(ctx, page, wanted))
  }
  page.compare = async revision => {
    page.against = revision
    await ctx.reload()
  }
  page.count = span => {
    page.span = span
    draw()
  }
  ctx.reload = async () => {
    await read()
    draw()
  }
  await read()
  ctx.onStatus(async status => {
    if (page.status && page.status.database?.log_end !== status.database?.log_end) page.grownAt = Date.now()
    page.status = status
    if (page.flowAt < page.grownAt + FLOW_TRAILS && Date.now() - page.flowAt > FLOW_EVERY) await readFlow().catch(() => undefined)
    draw()
  })
  draw()
}

function list(ctx, { workflows }) {
  const newest = workflows.filter((one, at) => workflows.findIndex(other => other.workflow === one.workflow) === at)
  return h('div', { class: 'stack' }, h('header', { class: 'head' }, h('h1', null, 'Workflows')),
    ctx.may('operator') && h('div', { class: 'actions' }, h('button', { class: newest.length === 0 ? 'primary' : null, onclick: () => create(ctx, '') }, 'New workflow')),
    table('Workflows', ['Workflow', 'Newest revision', 'State', 'Stored', 'By'], newest.map(one => [
      workflowLink(one.workflow), workflowLink(one.workflow, one.revision),
      one.paused ? badge(one.paused.archived ? 'archived' : 'paused', one.paused.archived ? 'dim' : 'warn') : badge('active', 'good'), ago(one.created_at), one.actor ?? '–']),
    { keys: newest.map(one => one.workflow), empty: ['No workflow is stored yet. ', ctx.may('operator') ? 'Store one here, or with ' : 'An operator stores one with ', h('code', null, 'glyph workflow create FILE'), '.'], hideCaption: true }))
}

function whole(ctx, page, wanted) {
  const { one, revisions, status } = page
  const steps = (status?.database?.steps ?? []).filter(step => step.workflow === page.id)
  const here = steps.filter(step => step.revision === one.revision)
  const waits = new Map(here.map(step => [step.step_id, {
    count: step.running + step.paused, bad: step.with_incidents > 0, title: `${step.running} running, ${step.paused} paused, ${step.with_incidents} with an incident`,
  }]))
  return h('div', { class: 'stack' },
    h('header', { class: 'head' }, h('h1', null, one.config.name ?? page.id), h('code', { class: 'id' }, `${page.id}@${one.revision}`),
      one.paused ? badge(one.paused.archived ? 'archived' : 'paused', 'warn') : badge('active', 'good'),
      wanted && one.revision < revisions[0].revision && h('a', { href: `#/workflow/${page.id}` }, `The newest is revision ${revisions[0].revision}`)),
    one.paused && h('p', { class: 'notice' }, one.paused.reason ?? 'No reason was given', ' · since ', ago(one.paused.since)),
    actions(ctx, page),
    h('section', null, h('h2', null, 'What waits and what goes'),
      h('p', { class: 'dim' }, 'At steps: tasks of this revision that wait. On lines: how many tasks went along, of all revisions.'),
      h('div', { class: 'filters' }, field('Counted in', 'span', { value: page.span, options: [['last_hour', 'the last hour'], ['last_day', 'the last day']], onchange: event => page.count(event.target.value) })),
      diagram(page.drawing, waits, page.flow.map(way => ({ ...way, count: way[page.span], title: `${way.last_hour} in the last hour, ${way.last_day} in the last day` })))),
    table('Where tasks wait', ['Revision', 'Step', '#Running', '#Paused', '#Incidents', 'Longest untouched'], steps.map(step => [
      String(step.revision), h('a', { href: `#/tasks?workflow=${page.id}&step=${step.step_id}` }, step.step_id), number(step.running), number(step.paused), number(step.with_incidents), ago(step.oldest_at)]),
    { keys: steps.map(step => `${step.revision}/${step.step_id}`), empty: 'No task of this workflow waits.' }),
    table('Ways that were gone', ['From', 'To', '#Last hour', '#Last day'], page.flow.map(way => [way.from, way.to.replace(/^_/, ''), number(way.last_hour), number(way.last_day)]),
      { keys: page.flow.map(way => `${way.from}/${way.to}`), empty: 'No task has gone from step to step in the last day.' }),
    table('Revisions', ['Revision', 'Stored', 'By', 'Content'], revisions.map(row => [workflowLink(page.id, row.revision), ago(row.created_at), row.actor ?? '–', h('code', { class: 'id' }, row.content_hash.slice(0, 12))]),
      { keys: revisions.map(row => row.id) }),
    difference(page),
    h('section', null, json(one.config, 'The workflow, with templates and library steps resolved')))
}

function actions(ctx, page) {
  const { one } = page
  const verb = (label, path, text, danger) => h('button', { class: danger ? 'danger' : null, onclick: () => operate(ctx, page.id, label, path, text, danger) }, label)
  return h('div', { class: 'actions' },
    h('a', { class: 'button', href: `#/trial/${page.id}@${one.revision}` }, 'Try it'),
    ctx.may('operator', 'producer') && !one.paused && h('button', { onclick: () => start(ctx, page) }, 'Start a task'),
    h('a', { class: 'button', href: new URL(`../annotate?workflow=${page.id}`, document.baseURI).href, target: '_blank' }, 'Label'),
    h('button', { onclick: () => saveFile(ctx, page) }, 'Save the file'),
    ctx.may('operator') && [
      h('button', { onclick: async () => create(ctx, await getText(`workflows/${one.id}/yaml`, ctx.signal)) }, 'New revision'),
      page.revisions.length > 1 && h('button', { onclick: () => migrate(ctx, page) }, 'Migrate tasks'),
      !one.paused && verb('Pause', 'pause', 'No task moves and no timer runs until it is resumed.'),
      one.paused && !one.paused.archived && verb('Resume', 'resume', 'All its tasks go on, and their timers get the time back.'),
      one.paused?.archived ? verb('Restore', 'restore', 'It is listed again, and its tasks go on.') : verb('Archive', 'archive', 'It is paused until it is restored, and left out of lists.', true)])
}

const saveFile = (ctx, page) => ctx.act('Save', async () => {
  save(`${page.id}@${page.one.revision}.yaml`, 'application/yaml', await getText(`workflows/${page.one.id}/yaml`, ctx.signal))
  return 'The file is saved, with templates and library steps written out'
})

/** Stores a file as a revision; what is wrong with it is said beside it, and the text is kept. */
async function create(ctx, text, faults = []) {
  const said = await ask('Store a workflow', 'A file as in docs/language.md. A workflow of the same id gets a new revision; tasks stay on theirs.', [
    field('File', 'file', { rows: 18, value: text, required: true }),
    faults.length > 0 && h('ul', { class: 'plain faults', role: 'alert' }, faults.map(fault => h('li', null, fault.line ? `Line ${fault.line}: ` : '', fault.message, fault.suggestion && `; ${fault.suggestion}`)))], 'Store')
  if (!said) return
  try {
    const stored = await post('workflows', said.file, { type: 'application/yaml' })
    location.hash = `#/workflow/${stored.workflow}@${stored.revision}`
    const warned = stored.warnings?.length ? `, with ${stored.warnings.length} warning${stored.warnings.length > 1 ? 's' : ''}: ${stored.warnings[0].message}` : ''
    await ctx.act('Store', async () => `Revision ${stored.revision} of ${stored.workflow} is stored${warned}`)
  } catch (error) {
    if (!(error instanceof Problem)) throw error
    await create(ctx, said.file, error.diagnostics.length > 0 ? error.diagnostics : [{ message: error.message }])
  }
}

/** Starts a task of the newest revision. */
async function start(ctx, page) {
  const said = await ask(`Start a task of ${page.id}`, null, [
    field('Key', 'key', { hint: 'Your own name of the item; empty: a new task each time' }),
    field('Input', 'input', { rows: 6, value: '{"text": ""}', hint: 'What is labelled, as JSON' })], 'Start')
  if (!said) return
  await ctx.act('Start', async () => {
    let input
    try {
      input = JSON.parse(said.input || 'null')
    } catch {
      throw new Problem(400, 'malformed', 'the input is no JSON: a text needs quotation marks')
    }
    const task = await taskOfKey(said.key.trim())
    await post(`tasks/${task}/start`, { workflow: page.id, input })
    location.hash = `#/task/${task}`
    return 'The task is started'
  })
}

async function operate(ctx, id, label, path, text, danger) {
  const said = await ask(`${label} ${id}`, text, [field('Reason', 'reason')], label, { danger })
  if (said) await ctx.act(label, () => post(`workflows/${id}/${path}`, { reason: said.reason || undefined }).then(() => undefined))
}

/** Tasks move to a revision: first what would happen, then, if it is wanted, for good. */
async function migrate(ctx, page) {
  const numbers = page.revisions.map(row => [String(row.revision), `revision ${row.revision}`])
  const said = await ask(`Migrate tasks of ${page.id}`, 'First it is only tried: nothing changes yet.', [
    field('From', 'from', { options: numbers.slice(1).concat(numbers.slice(0, 1)) }), field('To', 'to', { options: numbers }),
    field('Steps with another name', 'steps', { hint: 'old=new, with commas between them' })], 'Try it')
  if (!said) return
  const steps = Object.fromEntries(said.steps.split(',').map(pair => pair.split('=').map(part => part.trim())).filter(pair => pair.length === 2))
  const request = { to: `${page.id}@${said.to}`, from: Number(said.from), steps }
  const run = async dry => {
    const counts = {}
    const refused = []
    let after
    do {
      const found = await post(`workflows/${page.id}/migrate`, { ...request, dry_run: dry, after })
      for (const task of found.tasks) {
        counts[task.outcome] = (counts[task.outcome] ?? 0) + 1
        if (task.detail && refused.length < 5) refused.push(task)
      }
      after = found.next_after
    } while (after)
    return { counts, refused }
  }
  await ctx.act('Migrate', async () => {
    const tried = await run(true)
    const text = Object.entries(tried.counts).map(([outcome, count]) => `${number(count)} ${outcome.replaceAll('_', ' ')}`).join(', ') || 'no task is on that revision'
    const go = await ask('What would happen', text, [h('ul', { class: 'plain' }, tried.refused.map(task => h('li', null, taskLink(task.task_id), ': ', task.detail)))], 'Migrate')
    if (!go) return 'Nothing was migrated'
    const { counts } = await run(false)
    return `Migrated: ${Object.entries(counts).map(([outcome, count]) => `${number(count)} ${outcome.replaceAll('_', ' ')}`).join(', ')}`
  })
}

function difference(page) {
  if (page.revisions.length < 2) return null
  const { one, before } = page
  const others = page.revisions.filter(row => row.revision !== one.revision)
  const picked = before?.revision ?? ''
  const value = (tag, given) => (given === undefined ? '–' : h(tag, null, JSON.stringify(given)))
  return h('section', null, h('h2', null, 'What changed'),
    h('div', { class: 'filters' }, field(`Compare revision ${one.revision} with`, 'against', { value: String(picked), options: [['', 'none'], ...others.map(row => [String(row.revision), `revision ${row.revision}`])], onchange: event => page.compare(Number(event.target.value) || 0) })),
    before && table('Differences', ['Path', `Revision ${picked}`, `Revision ${one.revision}`], page.changes.map(change => [h('code', null, change.path), value('del', change.from), value('ins', change.to)]), { empty: 'Nothing differs.', hideCaption: true }))
}
