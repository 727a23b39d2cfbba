// Workflows: the list; one with its drawing and what waits where, its revisions and what changed between them.

import { get, getText, post } from './api.js'
import { ago, ask, badge, field, h, json, number, s, show, table, taskLink, workflowLink } from './dom.js'

export async function view(ctx, place) {
  if (!ctx.parts[0]) {
    await ctx.live(place, async () => list(ctx, await get('workflows', { archived: true }, ctx.signal)), 5)
    return
  }
  const [id, wanted] = ctx.parts[0].split('@')
  ctx.title(id)
  const page = { id, status: null, against: null }
  const read = async () => {
    const [one, { workflows }] = await Promise.all([get(`workflows/${encodeURIComponent(ctx.parts[0])}`, {}, ctx.signal), get('workflows', { workflow: id }, ctx.signal)])
    const drawing = page.drawing && page.one?.id === one.id ? page.drawing : await getText(`workflows/${one.id}/diagram`, ctx.signal)
    Object.assign(page, { one, revisions: workflows, drawing })
    const before = workflows.find(other => other.revision === (page.against ?? one.revision - 1))
    page.before = before && (await get(`workflows/${before.id}`, {}, ctx.signal))
  }
  const draw = () => {
    if (!ctx.signal.aborted) show(place, whole(ctx, page, wanted, compare))
  }
  const compare = async revision => {
    page.against = revision
    await ctx.reload()
  }
  ctx.reload = async () => {
    await read()
    draw()
  }
  await read()
  ctx.onStatus(status => {
    page.status = status
    draw()
  })
  draw()
}

function list(ctx, { workflows }) {
  const newest = workflows.filter((one, at) => workflows.findIndex(other => other.workflow === one.workflow) === at)
  return h('div', { class: 'stack' }, h('header', { class: 'head' }, h('h1', null, 'Workflows')),
    table('Workflows', ['Workflow', 'Newest revision', 'State', 'Stored', 'By'], newest.map(one => [
      workflowLink(one.workflow), workflowLink(one.workflow, one.revision),
      one.paused ? badge(one.paused.archived ? 'archived' : 'paused', one.paused.archived ? 'dim' : 'warn') : badge('active', 'good'), ago(one.created_at), one.actor ?? '–']),
    { keys: newest.map(one => one.workflow), empty: 'No workflow is stored yet: glyph workflow create FILE.', hideCaption: true }))
}

function whole(ctx, page, wanted, compare) {
  const { one, revisions, status } = page
  const steps = (status?.database?.steps ?? []).filter(step => step.workflow === page.id)
  const here = steps.filter(step => step.revision === one.revision)
  return h('div', { class: 'stack' },
    h('header', { class: 'head' }, h('h1', null, one.config.name ?? page.id), h('code', { class: 'id' }, `${page.id}@${one.revision}`),
      one.paused ? badge(one.paused.archived ? 'archived' : 'paused', 'warn') : badge('active', 'good'),
      wanted && one.revision < revisions[0].revision && h('a', { href: `#/workflow/${page.id}` }, `The newest is revision ${revisions[0].revision}`)),
    one.paused && h('p', { class: 'notice' }, one.paused.reason ?? 'No reason was given', ' · since ', ago(one.paused.since)),
    actions(ctx, page),
    h('section', { 'aria-label': 'Drawing' }, diagram(page.drawing, here)),
    table('Where tasks wait', ['Revision', 'Step', '#Running', '#Paused', '#Incidents', 'Longest untouched'], steps.map(step => [
      String(step.revision), h('a', { href: `#/tasks?workflow=${page.id}&step=${step.step_id}` }, step.step_id), number(step.running), number(step.paused), number(step.with_incidents), ago(step.oldest_at)]),
    { keys: steps.map(step => `${step.revision}/${step.step_id}`), empty: 'No task of this workflow waits.' }),
    table('Revisions', ['Revision', 'Stored', 'By', 'Content'], revisions.map(row => [workflowLink(page.id, row.revision), ago(row.created_at), row.actor ?? '–', h('code', { class: 'id' }, row.content_hash.slice(0, 12))]),
      { keys: revisions.map(row => row.id) }),
    difference(page, compare),
    h('section', null, json(one.config, 'The workflow, with templates and library steps resolved')))
}

function actions(ctx, page) {
  if (!ctx.may('operator')) return null
  const { one } = page
  const verb = (label, path, text, danger) => h('button', { class: danger ? 'danger' : null, onclick: () => operate(ctx, page.id, label, path, text, danger) }, label)
  return h('div', { class: 'actions' },
    !one.paused && verb('Pause', 'pause', 'No task moves and no timer runs until it is resumed.'),
    one.paused && !one.paused.archived && verb('Resume', 'resume', 'All its tasks go on, and their timers get the time back.'),
    one.paused?.archived ? verb('Restore', 'restore', 'It is listed again, and its tasks go on.') : verb('Archive', 'archive', 'It is paused until it is restored, and left out of lists.', true),
    page.revisions.length > 1 && h('button', { onclick: () => migrate(ctx, page) }, 'Migrate tasks'))
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

/** The drawing of the worker, in the colours of the page and with how many tasks wait at each step. */
function diagram(text, steps) {
  // Its own colours are for a white sheet of paper, and the page may have no styles inside.
  const drawn = new DOMParser().parseFromString(text.replace(/<style>.*?<\/style>/s, ''), 'image/svg+xml').documentElement
  if (drawn.localName !== 'svg') return h('p', { class: 'empty' }, 'There is no drawing.')
  drawn.querySelector(':scope > rect')?.remove()
  drawn.querySelector('text.title')?.remove()
  const svg = document.importNode(drawn, true)
  const counts = new Map(steps.map(step => [step.step_id, step]))
  const badges = []
  let shape = null
  for (const element of svg.querySelectorAll('.node, text.id')) {
    if (element.classList.contains('node')) {
      shape = element
      continue
    }
    const step = counts.get(element.textContent)
    if (!step || shape?.localName !== 'rect') continue
    const x = Number(shape.getAttribute('x')) + Number(shape.getAttribute('width'))
    const y = Number(shape.getAttribute('y'))
    const label = number(step.running + step.paused)
    const width = 14 + label.length * 7
    badges.push(s('g', { class: `waits ${step.with_incidents > 0 ? 'bad' : ''}` },
      s('title', null, `${step.running} running, ${step.paused} paused, ${step.with_incidents} with an incident`),
      s('rect', { x: x - width / 2, y: y - 10, width, height: 20, rx: 10 }), s('text', { x, y: y + 4, 'text-anchor': 'middle' }, label)))
  }
  // Above everything else.
  svg.querySelector(':scope > g')?.append(...badges)
  return h('div', { class: 'scroll diagram', tabindex: '0', role: 'group', 'aria-label': 'Drawing of the workflow' }, svg)
}

/** The paths of a configuration with their values. Steps are named by their id, so that a new one moves no other. */
function flat(value, path = '', found = new Map()) {
  if (Array.isArray(value)) value.forEach((one, at) => flat(one, `${path}[${one?.id ?? (one?.from ? `${one.from} → ${one.to}` : at)}]`, found))
  else if (value !== null && typeof value === 'object') for (const [key, one] of Object.entries(value)) flat(one, path ? `${path}.${key}` : key, found)
  else found.set(path, JSON.stringify(value))
  return found
}

function difference(page, compare) {
  if (page.revisions.length < 2) return null
  const { one, before } = page
  const others = page.revisions.filter(row => row.revision !== one.revision)
  const picked = before?.revision ?? ''
  const rows = []
  if (before) {
    const [old, now] = [flat(before.config), flat(one.config)]
    for (const path of new Set([...old.keys(), ...now.keys()])) if (old.get(path) !== now.get(path)) rows.push([h('code', null, path), old.has(path) ? h('del', null, old.get(path)) : '–', now.has(path) ? h('ins', null, now.get(path)) : '–'])
  }
  return h('section', null, h('h2', null, 'What changed'),
    h('div', { class: 'filters' }, field(`Compare revision ${one.revision} with`, 'against', { value: String(picked), options: [['', 'none'], ...others.map(row => [String(row.revision), `revision ${row.revision}`])], onchange: event => compare(Number(event.target.value) || null) })),
    picked !== '' && table('Differences', ['Path', `Revision ${picked}`, `Revision ${one.revision}`], rows, { empty: 'Nothing differs.', hideCaption: true }))
}
