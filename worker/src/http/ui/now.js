// Now: is it working, and what waits?

import { post } from './api.js'
import { ago, ask, badge, duration, field, h, number, show, sparkline, table, workflowLink } from './dom.js'

const PARTS = { database: 'Database', migrations: 'Schema', broker: 'Broker', intake: 'Intake' }
/** What was seen since the page was opened: time, tasks that ended, tasks. */
const seen = []
const SEEN_MAX = 300
/** So many refused messages the status lists at most. */
const REFUSED_MAX = 20

export function view(ctx, place) {
  ctx.onStatus(status => {
    remember(status)
    show(place, page(ctx, status))
  })
}

function remember(status) {
  const tasks = status.database?.tasks
  if (!tasks || seen.at(-1)?.at === Date.parse(status.database.at)) return
  const ended = tasks.completed + tasks.failed + tasks.cancelled + tasks.archived
  seen.push({ at: Date.parse(status.database.at), ended, all: ended + tasks.running + tasks.paused })
  if (seen.length > SEEN_MAX) seen.shift()
}

/** Changes a minute of one of the numbers, over spans of about ten seconds. */
function pace(key) {
  const rates = []
  let from = seen[0]
  for (const now of seen) {
    const minutes = (now.at - from.at) / 60000
    if (minutes < 1 / 6) continue
    rates.push(Math.max(0, (now[key] - from[key]) / minutes))
    from = now
  }
  return rates
}

function page(ctx, status) {
  const database = status.database
  return h('div', { class: 'stack' },
    h('header', { class: 'head' }, h('h1', null, 'Now'), badge(status.ready ? 'ready' : 'not ready', status.ready ? 'good' : 'bad'), h('span', { class: 'dim' }, `Glyph ${status.version}`)),
    h('ul', { class: 'parts' }, Object.entries(PARTS).map(([name, label]) => part(label, status.parts[name]))),
    status.unread && h('p', { class: 'notice bad', role: 'alert' }, `The figures below are old: ${status.unread}.`),
    database ? figures(status, database) : h('p', { class: 'empty' }, 'The database has not answered yet.'),
    ctx.may('operator') && h('div', { class: 'actions' }, h('button', { onclick: () => setLog(ctx) }, 'Set what this worker logs')))
}

async function setLog(ctx) {
  const said = await ask('Set what this worker logs', 'It counts until the worker is restarted, for the one process that answers here.', [
    field('Filter', 'filter', { value: 'info', required: true, hint: 'A level, and levels of parts: info,glyph_worker=debug' })], 'Set')
  if (said) await ctx.act('Log', async () => {
    const { filter, before } = await post('log', { filter: said.filter }, { method: 'PUT' })
    return `It logs ${filter}, before ${before}`
  })
}

function part(label, state) {
  return h('li', { class: state.ready ? 'good' : 'bad' }, h('strong', null, label), ' ', state.ready ? 'ready' : state.reason ?? 'not ready')
}

function figures(status, database) {
  const incidents = database.steps.reduce((sum, step) => sum + step.with_incidents, 0)
  const dead = status.queues?.find(queue => queue.queue === 'dead')?.messages
  const { tasks, outbox, timers } = database
  return [
    h('section', { class: 'tiles', 'aria-label': 'Figures' },
      tile('Running', number(tasks.running), '#/tasks?status=running'),
      tile('Completed', number(tasks.completed), '#/tasks?status=completed', rate('ended', 'a minute')),
      tile('Started', number(Object.values(tasks).reduce((sum, count) => sum + count, 0)), '#/tasks', rate('all', 'a minute')),
      tile('Paused', number(tasks.paused), '#/tasks?status=paused', null, tasks.paused > 0 && 'warn'),
      tile('Incidents', number(incidents), '#/stuck', null, incidents > 0 && 'bad'),
      tile('Dead letters', dead === undefined || dead === null ? 'not known' : number(dead), '#/dead', null, dead > 0 && 'bad'),
      tile('Outbox', number(outbox.pending), '#/outbox', h('span', null, outbox.pending > 0 ? `oldest ${duration(outbox.oldest_seconds)}` : 'everything is published'), outbox.oldest_seconds > 30 && 'bad'),
      tile('Timers due', number(timers.due), null, timers.due > 0 && h('span', null, `oldest ${duration(timers.oldest_seconds)}`), timers.oldest_seconds > 60 && 'bad')),
    outbox.refused.length > 0 && h('p', { class: 'notice bad' }, 'The broker refuses ', h('a', { href: '#/outbox' }, outbox.refused.length === 1 ? 'a message' : outbox.refused.length < REFUSED_MAX ? `${outbox.refused.length} messages` : `${REFUSED_MAX} messages or more`), `: ${outbox.refused[0].error}`),
    table('Waiting by step', ['Workflow', 'Step', '#Running', '#Paused', '#Incidents', 'Longest untouched'],
      [...database.steps].sort((a, b) => (a.oldest_at ?? '9') < (b.oldest_at ?? '9') ? -1 : 1).map(step => [
        workflowLink(step.workflow, step.revision),
        h('a', { href: `#/tasks?workflow=${step.workflow}&step=${step.step_id}` }, step.step_id),
        number(step.running), number(step.paused),
        step.with_incidents > 0 ? h('a', { href: `#/tasks?workflow=${step.workflow}&step=${step.step_id}&incidents=true` }, number(step.with_incidents)) : '0',
        ago(step.oldest_at),
      ]), { keys: database.steps.map(step => `${step.workflow}/${step.revision}/${step.step_id}`).sort(), empty: 'No task waits.' }),
    queues(status.queues),
    database.paused.length > 0 && table('Paused workflows', ['Workflow', 'Why', 'Since', 'Until'], database.paused.map(pause => [
      workflowLink(pause.workflow), [pause.archived && badge('archived'), ' ', pause.reason ?? 'no reason given'], ago(pause.since), pause.until ? ago(pause.until) : 'resumed by hand'])),
  ]
}

function tile(label, value, href, more, tone) {
  const inner = [h('span', { class: 'label' }, label), h('strong', null, value), more]
  return href ? h('a', { class: `tile ${tone || ''}`, href }, inner) : h('div', { class: `tile ${tone || ''}` }, inner)
}

function rate(key, unit) {
  const rates = pace(key)
  if (rates.length < 2) return h('span', null, 'measuring')
  return [sparkline(rates, `${Math.round(rates.at(-1))} ${unit} now`), h('span', null, `${number(rates.at(-1))} ${unit}`)]
}

const READ_BY_US = ['submission', 'advance', 'control']

function queues(known) {
  if (!known) return h('section', null, h('h2', null, 'Queues'), h('p', { class: 'empty' }, 'The broker did not say how full the queues are.'))
  return table('Queues', ['Queue', '#Waiting', '#Consumers', 'Note'], known.map(queue => [
    queue.queue, queue.messages === null ? '–' : number(queue.messages), queue.consumers === null ? '–' : number(queue.consumers), note(queue)]),
  { keys: known.map(queue => queue.queue) })
}

function note(queue) {
  if (queue.messages === null) return badge('missing', 'bad')
  if (queue.queue === 'dead') return queue.messages > 0 ? h('a', { href: '#/dead' }, 'look at them') : ''
  if (queue.queue.startsWith('retry')) return 'tried again by themselves'
  if (queue.consumers !== 0) return ''
  if (READ_BY_US.includes(queue.queue)) return badge('no worker reads it', 'bad')
  return queue.messages > 0 ? badge('nobody reads it', 'warn') : 'nobody reads it'
}
