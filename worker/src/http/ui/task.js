// Task: why it is where it is, what people said, what happened, how it was at each version, and what can be done.

import { Problem, all, get, post } from './api.js'
import { ago, ask, badge, coded, exact, field, h, json, lasting, number, percent, personLink, prose, show, short, taskLink, toast, workflowLink } from './dom.js'
import { shown, sideBySide, textOf } from './data.js'
import { sentence } from './events.js'

/** Events that are shown; a longer history is read in the feed. */
const EVENTS_MAX = 2000

export async function view(ctx, place) {
  const id = ctx.parts[0]
  const at = Number(ctx.query.get('at')) || null
  ctx.title(`Task ${short(id)}`)
  const page = { id, at, state: null, explained: null, events: [], more: false, then: null }

  const read = async () => {
    const [state, explained, history] = await Promise.all([
      get(`tasks/${id}/state`, {}, ctx.signal), get(`tasks/${id}/explain`, {}, ctx.signal), all(`tasks/${id}/events`, {}, 'events', EVENTS_MAX, ctx.signal)])
    Object.assign(page, { state, explained, events: history.items, more: history.more })
  }
  const draw = () => {
    if (!ctx.signal.aborted) show(place, whole(ctx, page, travel))
  }
  /** Shows the state at a version; the newest one follows the task. Only the last wish counts. */
  let wish = 0
  const travel = async version => {
    const mine = (wish += 1)
    page.at = version === null || version >= page.state.version ? null : version
    history.replaceState(null, '', `#/task/${id}${page.at ? `?at=${page.at}` : ''}`)
    if (page.at === null) page.then = null
    else {
      try {
        const then = await get(`tasks/${id}/state`, { at_version: page.at }, ctx.signal)
        if (mine !== wish) return
        page.then = then
      } catch (error) {
        if (!(error instanceof Problem)) throw error
        page.then = null
        page.at = null
        toast(error.message, 'bad')
      }
    }
    draw()
  }

  await read()
  await travel(at)
  ctx.reload = async () => {
    try {
      await read()
      draw()
    } catch (error) {
      if (error.name !== 'AbortError') toast(error.message, 'bad')
    }
  }
  ctx.onTask(change => {
    if (change.version !== page.state.version) ctx.reload()
  })
}

function whole(ctx, page, travel) {
  const { state, explained } = page
  const state_at = page.then ?? state
  return h('div', { class: 'stack' },
    h('header', { class: 'head' },
      h('h1', null, 'Task ', h('code', { class: 'id' }, page.id)),
      badge(state.status), state.incidents.length > 0 && badge(`${state.incidents.length} incident${state.incidents.length > 1 ? 's' : ''}`, 'bad'),
      h('span', { class: 'dim' }, workflowLink(state.workflow, state.revision), ` · version ${state.version} · started `, ago(state.started_at), ' · changed ', ago(state.updated_at))),
    state.parent && h('p', { class: 'notice' }, 'It runs as the sub-workflow of ', taskLink(state.parent.task_id), ` (${state.parent.step_id}).`),
    isSaidBelow(explained) ? null : h('p', { class: 'summary' }, prose(explained.summary)),
    waiting(explained),
    verbs(ctx, page),
    h('div', { class: 'columns' },
      h('div', { class: 'stack' }, slider(page, travel), input(state_at), answers(state_at), decisions(explained, page), raw(state_at)),
      timeline(page, travel)))
}

/** Where steps wait, the summary is what the steps say. */
const isSaidBelow = explained => explained.status === 'running' && !explained.workflow_pause && explained.waiting.length > 0

function waiting(explained) {
  if (explained.waiting.length === 0) return null
  return h('ul', { class: 'waiting' }, explained.waiting.map(step => h('li', { 'data-key': step.step_id, class: step.incident ? 'bad' : null },
    h('strong', null, step.step_id), step.visit > 1 && ` (visit ${step.visit})`, ' waits for ', lasting(step.since), '. ', prose(step.reason),
    step.claims.length > 0 && h('ul', null, step.claims.map(claim => h('li', null, 'claimed by ', personLink(claim.user_id), ', lapses ', h('time', { datetime: claim.expires_at }, exact(claim.expires_at))))),
    step.child && h('span', null, ' Child task: ', taskLink(step.child.task_id), '.'))))
}

const WORDS = {
  retry: ['Retry', 'Try again what failed'], pause: ['Pause', ''], resume: ['Resume', ''], cancel: ['Cancel', 'It ends without an output, and nothing brings it back'],
  advance: ['Advance', 'End the step with what it has, or with the output given here'], assign: ['Assign', 'Claim a slot for a person'], release: ['Release', 'The slot is free again'],
}
/** Roles that may use a verb; the others are for operators alone. */
const ROLES = { advance: ['producer', 'operator'], assign: ['producer', 'operator'], release: ['producer', 'operator'] }

function nameOf(verb) {
  return [WORDS[verb.verb]?.[0] ?? verb.verb, verb.step_id && ` ${verb.step_id}`, verb.user_id && ` of ${short(verb.user_id)}`].filter(Boolean).join('')
}

/** What the engine would accept, as buttons; what it would not, with its sentence. */
function verbs(ctx, page) {
  const known = page.explained.verbs ?? []
  const mine = known.filter(verb => ctx.may(...(ROLES[verb.verb] ?? ['operator'])))
  const accepted = mine.filter(verb => verb.accepted)
  const refused = mine.filter(verb => !verb.accepted)
  return h('section', { 'aria-label': 'What can be done' },
    h('div', { class: 'actions' }, accepted.map(verb => h('button', {
      'data-key': `${verb.verb}/${verb.step_id ?? ''}/${verb.user_id ?? ''}`, class: verb.verb === 'cancel' ? 'danger' : verb.verb === 'retry' ? 'primary' : null, onclick: () => use(ctx, page, verb),
    }, nameOf(verb))),
    known.length > mine.length && h('span', { class: 'dim' }, `Your role is ${ctx.session.role}: ${mine.length === 0 ? 'it changes nothing here' : 'other verbs need an operator'}.`)),
    refused.length > 0 && h('details', null, h('summary', null, 'What is not possible now, and why'),
      h('ul', { class: 'plain' }, refused.map(verb => h('li', null, h('strong', null, nameOf(verb)), ': ', verb.detail ? prose(verb.detail) : verb.code)))))
}

async function use(ctx, page, verb) {
  const [label, text] = WORDS[verb.verb] ?? [verb.verb, '']
  const fields = []
  if (verb.verb === 'assign') {
    fields.push(field('Person', 'user_id', { required: true, hint: 'The UUID of the person' }))
    if (verb.needs?.includes('roles')) fields.push(field('Roles', 'roles', { required: true, hint: 'Roles that the person has, with commas between them' }))
  } else if (verb.verb === 'advance') {
    fields.push(field('Output', 'output', { rows: 4, required: verb.needs?.includes('output'), hint: verb.needs?.includes('output') ? 'JSON' : 'JSON, or empty for none' }))
  } else {
    fields.push(field('Reason', 'reason', { hint: 'Kept in the history' }))
  }
  if (verb.verb === 'pause') fields.push(field('Until', 'until', { type: 'datetime-local', hint: 'Empty: until somebody resumes it' }))
  const said = await ask(nameOf(verb), text, fields, label, { danger: verb.verb === 'cancel' })
  if (!said) return
  await ctx.act(nameOf(verb), async () => {
    const body = { step_id: verb.step_id, user_id: verb.user_id }
    if (said.reason) body.reason = said.reason
    if (said.user_id) body.user_id = said.user_id.trim()
    if (said.roles) body.roles = said.roles.split(',').map(role => role.trim()).filter(Boolean)
    if (said.until) body.until = new Date(said.until).toISOString()
    if (said.output?.trim()) {
      try {
        body.output = JSON.parse(said.output)
      } catch {
        throw new Problem(400, 'malformed', 'the output is no JSON: a text needs quotation marks')
      }
    }
    await post(`tasks/${page.id}/${verb.verb}`, body)
  })
}

function slider(page, travel) {
  const newest = page.state.version
  const at = page.at ?? newest
  const event = page.events.find(one => one.version === at)
  return h('section', { class: 'travel', 'aria-label': 'State at a version' },
    h('label', { for: 'version' }, 'State at version ', h('output', { for: 'version', id: 'at-version' }, String(at)), ` of ${newest}`, page.at === null && ', the newest'),
    h('div', { class: 'row' },
      h('button', { 'aria-label': 'One version back', disabled: at <= 1, onclick: () => travel(at - 1) }, '‹'),
      h('input', { id: 'version', type: 'range', min: '1', max: String(newest), value: String(at), oninput: event_ => travel(Number(event_.target.value)) }),
      h('button', { 'aria-label': 'One version on', disabled: at >= newest, onclick: () => travel(at + 1) }, '›'),
      h('button', { disabled: page.at === null, onclick: () => travel(null) }, 'Newest')),
    event && h('p', { class: 'dim' }, coded(sentence(event)), ' · ', exact(event.occurred_at)))
}

function input(state) {
  const text = textOf(state.input)
  return h('section', null, h('h2', null, 'Input'), text && h('blockquote', null, text),
    (text === undefined || (typeof state.input === 'object' && Object.keys(state.input).length > 1)) && json(state.input ?? null, 'The whole input'),
    Object.keys(state.labels ?? {}).length > 0 && h('p', { class: 'dim' }, Object.entries(state.labels).map(([key, value]) => [badge(`${key}=${value}`, 'dim'), ' '])))
}

/** The kinds of results whose agreement is that of the answers they are about. */
const JUDGES = ['adjudication', 'review']

/** Every visit with its answers, in the order in which they began. */
function answers(state) {
  const visits = Object.entries(state.steps).flatMap(([step, { visits }]) => visits.map(visit => ({ step, ...visit })))
  visits.sort((a, b) => (a.activated_at < b.activated_at ? -1 : a.activated_at > b.activated_at ? 1 : a.number - b.number))
  if (visits.length === 0) return null
  return h('section', null, h('h2', null, 'Steps'), visits.map(visit => h('article', { class: 'visit', 'data-key': `${visit.step}/${visit.number}` },
    h('h3', null, visit.step, visits.filter(one => one.step === visit.step).length > 1 && ` · visit ${visit.number}`, ' ', badge(visit.status),
      visit.pause && badge('paused', 'warn'),
      visit.result?.agreement !== null && visit.result?.agreement !== undefined && h('span', { class: 'dim' }, ` ${JUDGES.includes(visit.result.kind) ? 'on an agreement of' : 'agreement'} ${percent(visit.result.agreement)}`),
      visit.result?.resolved_by && h('span', { class: 'dim' }, ` · ${visit.result.resolved_by.replaceAll('_', ' ')}`)),
    visit.annotations?.length > 0 ? sideBySide(visit.annotations, visit.result, state.input)
      : visit.result ? h('p', null, 'Value: ', shown(visit.result.value, { input: state.input }))
        : h('p', { class: 'dim' }, visit.places ? `Nobody has submitted; ${number(visit.places)} asked for.` : 'No result yet.'),
    visit.child && h('p', null, 'Runs as ', taskLink(visit.child.task_id), '.'))))
}

function decisions(explained, page) {
  const compared = explained.decisions.filter(decision => decision.consensus && decision.version <= (page.at ?? Infinity))
  if (compared.length === 0) return null
  return h('section', null, h('h2', null, 'How it was decided'), compared.map(({ step_id: step, version, consensus }) => h('p', { 'data-key': `${step}/${version}` },
    h('strong', null, step), ` at version ${version}: ${consensus.metric.replaceAll('_', ' ')} ${consensus.agreement === null ? 'not defined' : consensus.agreement.toFixed(2)}`,
    ` ${consensus.agreed ? 'reaches' : 'is below'} the threshold of ${consensus.threshold}`,
    consensus.votes?.length > 0 && consensus.votes.every(vote => typeof vote.value !== 'object') && [': ', consensus.votes.map((vote, at) => [at > 0 && ', ', h('code', null, JSON.stringify(vote.value)), ` ${vote.count}`])], '.')))
}

const raw = state => h('section', null, h('details', { class: 'raw' }, h('summary', null, 'The state as the API answers it'),
  h('pre', { id: 'raw-state', tabindex: '0', role: 'group', 'aria-label': 'State' }, JSON.stringify(state, null, 2))))

function timeline(page, travel) {
  const events = [...page.events].reverse()
  const at = page.at ?? page.state.version
  return h('section', { class: 'timeline', 'aria-label': 'Timeline' }, h('h2', null, 'Timeline'),
    page.more && h('p', { class: 'notice' }, `Only the first ${number(EVENTS_MAX)} events are listed.`),
    page.events.length < page.state.version && !page.more && h('p', { class: 'notice' }, 'Most of the history is in an archive.'),
    h('ol', null, events.map(event => h('li', { 'data-key': event.event_id, class: event.version === at ? 'here' : event.version > at ? 'later' : null },
      h('button', { class: 'quiet version', 'aria-label': `State at version ${event.version}`, 'aria-current': event.version === at ? 'true' : null, onclick: () => travel(event.version) }, String(event.version)),
      h('div', null, coded(sentence(event)), h('small', { class: 'dim' }, ' ', ago(event.occurred_at), event.metadata?.actor && ` · ${event.metadata.actor}`))))))
}
