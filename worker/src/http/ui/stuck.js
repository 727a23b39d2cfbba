// Stuck: why tasks do not go on, grouped by cause.

import { get, post } from './api.js'
import { ask, badge, field, h, lasting, number, personLink, prose, table, taskLink, workflowLink } from './dom.js'

const CAUSES = {
  incident: 'Incident',
  nobody_qualified: 'Nobody is qualified',
  message_refused: 'The broker refuses a message',
  workflow_paused: 'The workflow is paused',
  task_paused: 'Tasks are paused',
}

export async function view(ctx, place) {
  await ctx.live(place, async () => page(ctx, await get('stuck', {}, ctx.signal)))
}

function page(ctx, stuck) {
  return h('div', { class: 'stack' },
    h('header', { class: 'head' }, h('h1', null, 'Stuck'), h('span', { class: 'dim' }, 'Why tasks do not go on, by cause')),
    stuck.more && h('p', { class: 'notice' }, 'There are more than were looked at: numbers are at least what they say.'),
    stuck.groups.length === 0 && h('p', { class: 'empty' }, 'Nothing is stuck. Tasks wait for people or machines only.'),
    stuck.groups.map(group => card(ctx, group)),
    table('Who holds slots', ['Person', '#Slots'], stuck.claims.map(claim => [personLink(claim.user_id), number(claim.slots)]),
      { keys: stuck.claims.map(claim => claim.user_id), empty: 'Nobody has claimed a slot.' }))
}

function card(ctx, group) {
  const key = [group.cause, group.code, group.workflow, group.step_id, group.reason].join('/')
  const filter = new URLSearchParams()
  if (group.workflow) filter.set('workflow', group.workflow)
  if (group.step_id) filter.set('step', group.step_id)
  if (group.cause === 'incident') filter.set('incidents', 'true')
  if (group.cause === 'task_paused') filter.set('status', 'paused')
  return h('article', { class: 'card', 'data-key': key },
    h('h2', null, CAUSES[group.cause] ?? group.cause, ' ', group.code && badge(group.code, 'bad'),
      h('span', { class: 'figure' }, `${number(group.tasks)} ${group.tasks === 1 ? 'task' : 'tasks'}`)),
    h('p', { class: 'where' }, group.workflow && workflowLink(group.workflow), group.step_id && [' at ', h('strong', null, group.step_id)],
      group.since && [', for ', lasting(group.since)], group.actor && [', by ', h('strong', null, group.actor)]),
    h('p', null, prose(group.reason)),
    group.examples.length > 0 && h('p', { class: 'examples' }, group.examples.map(task => [taskLink(task), ' '])),
    h('div', { class: 'actions' }, actions(ctx, group), group.workflow && group.cause !== 'workflow_paused' && h('a', { class: 'button', href: `#/tasks?${filter}` }, 'List all')))
}

function actions(ctx, group) {
  if (!ctx.may('operator')) return []
  const several = (label, verb) => h('button', { onclick: () => each(ctx, group.examples, label, verb) }, `${label} ${group.examples.length === 1 ? 'it' : `these ${group.examples.length}`}`)
  switch (group.cause) {
    case 'incident': return [h('button', { onclick: () => retryAll(ctx, group) }, group.tasks === 1 ? 'Retry it' : `Retry all ${number(group.tasks)}`)]
    case 'message_refused': return [h('a', { class: 'button', href: '#/outbox' }, 'Look at them')]
    case 'task_paused': return [several('Resume', 'resume')]
    case 'workflow_paused': return [h('button', { onclick: () => resume(ctx, group) }, 'Resume the workflow')]
    default: return []
  }
}

/** Retries every open incident of a group, also those that are not named on the page. */
async function retryAll(ctx, group) {
  const tasks = []
  let after
  do {
    const page = await get('incidents', { code: group.code, workflow: group.workflow, after, limit: 200 }, ctx.signal)
    tasks.push(...page.groups.flatMap(of => of.incidents).filter(one => one.step_id === group.step_id).map(one => one.task_id))
    after = page.next_after
  } while (after)
  await each(ctx, tasks, 'Retry', 'retry')
}

/** Does one verb to several tasks, and counts. The engine decides each by itself. */
async function each(ctx, tasks, label, verb) {
  const said = await ask(`${label} ${number(tasks.length)} ${tasks.length === 1 ? 'task' : 'tasks'}`, 'Each is decided by itself; what is refused stays as it is.', [field('Reason', 'reason', { hint: 'Kept in the history of each task.' })], label)
  if (!said) return
  await ctx.act(label, async () => {
    let done = 0
    const refused = []
    for (const task of tasks) {
      try {
        await post(`tasks/${task}/${verb}`, { reason: said.reason || undefined })
        done += 1
      } catch (error) {
        refused.push(error.message)
      }
    }
    return `${label}: ${done} done${refused.length ? `, ${refused.length} refused (${refused[0]})` : ''}`
  })
}

async function resume(ctx, group) {
  const said = await ask(`Resume ${group.workflow}`, 'All its tasks go on, and their timers get the time back.', [field('Reason', 'reason', {})], 'Resume')
  if (said) await ctx.act('Resume', () => post(`workflows/${group.workflow}/resume`, { reason: said.reason || undefined }).then(() => undefined))
}
