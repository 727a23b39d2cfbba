// Dead letters, rejected commands, and the jobs that replay them.

import { Problem, get, post } from './api.js'
import { ago, ask, badge, field, h, json, number, prose, table, taskLink } from './dom.js'

const isTask = text => /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i.test(text ?? '')

/** The key that an error names, as in `annotation.user_id: must be a UUID`. */
function namedKey(error) {
  const path = /^([^\s:]+): /.exec(error ?? '')?.[1] ?? /(?:missing|unknown) field `([^`]+)`/.exec(error ?? '')?.[1]
  return path?.split(/[.[]/).map(part => part.replace(']', '')).filter(Boolean)
}

/** A body with the line marked whose key an error names. */
function body(text, error) {
  let pretty = text
  try {
    pretty = JSON.stringify(JSON.parse(text), null, 2)
  } catch { /* It is shown as it came. */ }
  const lines = pretty.split('\n')
  const path = namedKey(error)
  let from = 0, found = -1
  for (const name of path ?? []) {
    const next = lines.findIndex((line, at) => at >= from && line.trimStart().startsWith(`"${name}":`))
    if (next < 0) break
    found = next
    from = next + 1
  }
  return h('pre', { class: 'json', tabindex: '0', role: 'group', 'aria-label': 'Body' }, lines.map((line, at) =>
    at === found ? h('mark', null, line, '   ← here', '\n') : `${line}\n`), path && found < 0 && h('mark', null, `(${path.join('.')} is not there)`))
}

function reasonsOf(counts, current, base) {
  const link = (reason, label) => h('a', { class: 'chip', href: reason ? `${base}?reason=${reason}` : base, 'aria-current': reason === current ? 'true' : null }, label)
  return h('p', { class: 'chips' }, link('', 'all'), Object.entries(counts).map(([reason, count]) => link(reason, `${reason.replaceAll('_', ' ')} ${number(count)}`)))
}

async function replay(ctx, path, chosen, many) {
  const said = await ask(`Replay ${many}`, 'One is tried, then ten, a hundredth, then the rest; it stops by itself when too many fail.',
    [field('Stop when more than this share has failed, in per cent', 'stop', { type: 'number', value: '1' })], 'Replay')
  if (!said) return
  await ctx.act('Replay', async () => {
    const { job } = await post(`${path}/replay`, { ...chosen, stop_at: Number(said.stop) / 100 })
    location.hash = `#/jobs/${job}`
    return 'The replay has begun'
  })
}

async function drop(ctx, path, chosen, many) {
  const said = await ask(`Drop ${many}`, 'This cannot be undone.', [], 'Drop', { danger: true })
  if (said) await ctx.act('Drop', async () => `${(await post(`${path}/drop`, chosen)).dropped} dropped`)
}

export async function deadView(ctx, place) {
  const reason = ctx.query.get('reason') ?? ''
  const limit = Number(ctx.query.get('limit')) || 50
  const read = async () => {
    const { dead_letters: letters, reasons, more } = await get('dead-letters', { reason, limit }, ctx.signal)
    const page = h('div', { class: 'stack' },
      h('header', { class: 'head' }, h('h1', null, 'Dead letters'), h('span', { class: 'dim' }, 'Commands that could not be read, or ran out of retries'), h('a', { href: '#/jobs' }, 'Replays')),
      reasonsOf(reasons, reason, '#/dead'),
      ctx.may('operator') && letters.length > 0 && h('div', { class: 'actions' },
        h('button', { class: 'primary', onclick: () => replay(ctx, 'dead-letters', reason ? { reason } : { all: true }, reason ? `all with the reason ${reason}` : 'all') }, reason ? `Replay all ${reason}` : 'Replay all'),
        h('button', { class: 'danger', onclick: () => drop(ctx, 'dead-letters', reason ? { reason } : { all: true }, reason ? `all with the reason ${reason}` : 'all') }, reason ? `Drop all ${reason}` : 'Drop all'),
        h('button', { onclick: () => ctx.reload() }, 'Look again')),
      letters.length === 0 && h('p', { class: 'empty' }, 'No dead letter is here.'),
      letters.map(letter => deadLetter(ctx, letter)),
      more && h('p', null, h('a', { class: 'button', href: `#/dead?${new URLSearchParams({ ...(reason && { reason }), limit: Math.min(limit * 4, 1000) })}` }, 'Look at more')))
    return page
  }
  // A look takes the letters and puts them back, so it is done when asked for, not all the time.
  ctx.reload = async () => {
    const page = await read()
    if (!ctx.signal.aborted) place.replaceChildren(page)
  }
  await ctx.reload()
}

function deadLetter(ctx, letter) {
  const chosen = { ids: [letter.letter] }
  return h('article', { class: 'card', 'data-key': letter.letter },
    h('h2', null, badge(letter.reason, 'bad'), ' ', h('code', { class: 'id' }, letter.letter), h('span', { class: 'figure' }, letter.routing_key)),
    letter.error && h('p', null, prose(letter.error)),
    h('p', { class: 'where' }, letter.first_failed_at && ['first failed ', ago(letter.first_failed_at), ' · '], `${letter.attempts} ${letter.attempts === 1 ? 'attempt' : 'attempts'}`,
      isTask(letter.task_id) && [' · task ', taskLink(letter.task_id)], letter.command_id && [' · command ', h('code', { class: 'id' }, letter.command_id)]),
    body(letter.body, letter.error),
    Object.keys(letter.headers).length > 0 && json(letter.headers, 'Headers'),
    ctx.may('operator') && h('div', { class: 'actions' },
      h('button', { onclick: () => edit(ctx, letter) }, 'Edit'),
      h('button', { onclick: () => replay(ctx, 'dead-letters', chosen, 'this letter') }, 'Replay'),
      h('button', { class: 'danger', onclick: () => drop(ctx, 'dead-letters', chosen, 'this letter') }, 'Drop')))
}

async function edit(ctx, letter) {
  let text = letter.body
  try {
    text = JSON.stringify(JSON.parse(text), null, 2)
  } catch { /* It is edited as it came. */ }
  const said = await ask('Edit a dead letter', letter.error, [field('Body', 'body', { rows: 16, value: text })], 'Put it back')
  if (said) await ctx.act('Edit', async () => {
    await post(`dead-letters/${letter.letter}`, { body: said.body }, { method: 'PUT' })
    return 'The letter is changed; replay it now'
  })
}

export async function rejectedView(ctx, place) {
  const filter = Object.fromEntries(['reason', 'workflow', 'task', 'after'].map(name => [name, ctx.query.get(name) ?? '']))
  await ctx.live(place, async () => {
    const { commands, next_after: next } = await get('rejected', { ...filter, limit: 50 }, ctx.signal)
    const counts = {}
    for (const command of commands) counts[command.reason] = (counts[command.reason] ?? 0) + 1
    const more = new URLSearchParams(Object.entries({ ...filter, after: next ?? '' }).filter(([, value]) => value))
    return h('div', { class: 'stack' },
      h('header', { class: 'head' }, h('h1', null, 'Rejected'), h('span', { class: 'dim' }, 'Commands that the state or the rules of a task forbade, newest first'), h('a', { href: '#/jobs' }, 'Replays')),
      reasonsOf(counts, filter.reason, '#/rejected'),
      ctx.may('operator') && filter.reason && commands.length > 0 && h('div', { class: 'actions' },
        h('button', { class: 'primary', onclick: () => replay(ctx, 'rejected', { reason: filter.reason }, `all with the reason ${filter.reason}`) }, `Replay all ${filter.reason}`)),
      commands.length === 0 && h('p', { class: 'empty' }, 'No rejected command is here.'),
      commands.map(command => rejected(ctx, command)),
      next && h('p', null, h('a', { class: 'button', href: `#/rejected?${more}` }, 'Next page')))
  })
}

function rejected(ctx, command) {
  return h('article', { class: 'card', 'data-key': command.command_id },
    h('h2', null, badge(command.reason, 'warn'), ' ', command.type, h('span', { class: 'figure' }, ago(command.decided_at))),
    h('p', null, prose(command.detail)),
    h('p', { class: 'where' }, command.task_id && ['task ', taskLink(command.task_id), ' · '], 'command ', h('code', { class: 'id' }, command.command_id)),
    command.payload && h('details', null, h('summary', null, 'Payload'), body(JSON.stringify(command.payload), command.detail)),
    ctx.may('operator') && h('div', { class: 'actions' },
      command.payload && h('button', { onclick: () => editRejected(ctx, command) }, 'Edit and run again'),
      command.payload && h('button', { onclick: () => again(ctx, command, {}) }, 'Run again'),
      h('button', { class: 'danger', onclick: () => drop(ctx, 'rejected', { ids: [command.command_id] }, 'this command from the list') }, 'Drop')))
}

const again = (ctx, command, payload) => ctx.act('Run again', async () => {
  const { command_id: id } = await post(`rejected/${command.command_id}/replay`, payload)
  return `Applied, as command ${id}`
})

async function editRejected(ctx, command) {
  const said = await ask('Edit a rejected command', command.detail, [field('Payload', 'payload', { rows: 16, value: JSON.stringify(command.payload, null, 2) })], 'Run it')
  if (!said) return
  let payload
  try {
    payload = JSON.parse(said.payload)
  } catch (error) {
    await ctx.act('Run again', () => Promise.reject(new Problem(400, 'malformed', `the payload is no JSON: ${error.message}`)))
    return
  }
  await again(ctx, command, { payload })
}

export async function jobsView(ctx, place) {
  const id = ctx.parts[0]
  ctx.title('Replays')
  const read = async () => (id ? job(ctx, await get(`jobs/${id}`, {}, ctx.signal)) : jobs(await get('jobs', {}, ctx.signal)))
  await ctx.live(place, read, 1)
  // Counts of a job change without an event of a task.
  const timer = setInterval(() => ctx.signal.aborted ? clearInterval(timer) : !document.hidden && ctx.reload(), 2000)
}

const counted = counts => Object.entries(counts).map(([state, count]) => `${number(count)} ${state}`).join(', ') || 'nothing yet'

function jobs({ jobs: known }) {
  return h('div', { class: 'stack' }, h('header', { class: 'head' }, h('h1', null, 'Replays')),
    table('Jobs', ['Job', 'What', 'By', 'State', 'Items', 'Created'], known.map(one => [
      h('a', { href: `#/jobs/${one.id}`, class: 'id' }, one.id.slice(0, 8)), one.kind.replaceAll('_', ' '), one.actor, badge(one.state), counted(one.counts), ago(one.created_at)]),
    { keys: known.map(one => one.id), empty: 'Nobody has asked for a replay yet.', hideCaption: true }))
}

function job(ctx, one) {
  return h('div', { class: 'stack' },
    h('header', { class: 'head' }, h('h1', null, one.kind.replaceAll('_', ' ')), badge(one.state), h('span', { class: 'dim' }, `by ${one.actor} · `, ago(one.created_at))),
    h('p', { class: 'summary' }, counted(one.counts), one.reason && `. ${one.reason}`),
    one.state === 'running' && h('p', { class: 'dim' }, one.phase ? `Phase: ${one.phase}` : 'No worker has taken it yet.'),
    one.state === 'running' && ctx.may('operator') && h('div', { class: 'actions' }, h('button', { class: 'danger', onclick: () => ctx.act('Stop', async () => {
      await post(`jobs/${one.id}/stop`)
      return 'It stops; what was not tried goes back'
    }) }, 'Stop')),
    table('What failed', ['#Item', 'Task', 'Why'], one.failed.map(item => [number(item.item), isTask(item.task_id) ? taskLink(item.task_id) : '–', item.detail ?? '']), { empty: 'Nothing has failed.' }),
    h('p', null, h('a', { href: '#/jobs' }, 'All replays')))
}
