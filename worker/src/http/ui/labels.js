// Labels: what tasks were completed with. Likely errors first, all in pages, calibration, export, looking back.

import { address, get, post } from './api.js'
import { ago, ask, badge, bar, field, h, number, percent, table, taskLink } from './dom.js'

/** Likely errors that are shown. */
const LIKELY = 20
/** For about how long one request looks for them, so that none keeps a worker long. */
const LOOK_SECONDS = 0.05

export async function view(ctx, place) {
  const { workflows } = await get('workflows', { archived: true }, ctx.signal)
  const ids = [...new Set(workflows.map(one => one.workflow))].sort()
  const workflow = ctx.query.get('workflow') ?? ids[0]
  if (!workflow) {
    place.replaceChildren(h('div', { class: 'stack' }, h('header', { class: 'head' }, h('h1', null, 'Labels')), h('p', { class: 'empty' }, 'No workflow is stored yet.')))
    return
  }
  const after = ctx.query.get('after') ?? ''
  const likely = h('div', null, h('p', { class: 'empty', role: 'status' }, 'Looking for likely errors'))
  const listed = h('div', null, h('p', { class: 'empty', role: 'status' }, 'Loading'))
  const { calibration } = await get('calibration', { workflow }, ctx.signal)
  place.replaceChildren(h('div', { class: 'stack' }, head(ctx, workflow, ids), ...(after ? [] : [likely]), listed, calibrated(calibration) || ''))
  if (!after) suspects(ctx, workflow, likely)
  await ctx.live(listed, async () => list(await get('labels', { workflow, limit: 50, after }, ctx.signal), workflow, after), 5)
}

/** Looks through all tasks once, some at a time, and shows what was found so far. */
async function suspects(ctx, workflow, likely) {
  try {
    let [found, tasks, after] = [[], 0, '']
    do {
      const part = await get('labels/suspect', { workflow, limit: LIKELY, seconds: LOOK_SECONDS, after }, ctx.signal)
      found = [...found, ...part.suspects].sort((a, b) => b.error_probability - a.error_probability).slice(0, LIKELY)
      tasks += part.tasks
      after = part.next_after
      likely.replaceChildren(table('Most likely wrong', ['Task', 'Step', 'Delivered', 'Now', 'Probably wrong'], found.map(one => [
        taskLink(one.task_id), `${one.step}${one.field ? ` · ${one.field}` : ''}`, text(one.value), text(one.value_now), percent(one.error_probability, 1)]),
      { empty: `No likely error among ${number(tasks)} tasks. Models know categories only.` }),
      after ? h('p', { class: 'notice' }, `Looked at ${number(tasks)} tasks so far.`) : '')
    } while (after)
  } catch (error) {
    if (error.name !== 'AbortError') likely.replaceChildren(h('p', { class: 'notice bad' }, error.message))
  }
}

const text = value => (value === null || value === undefined ? h('span', { class: 'dim' }, 'no value') : typeof value === 'string' ? value : h('code', null, JSON.stringify(value)))

function head(ctx, workflow, ids) {
  return [h('header', { class: 'head' }, h('h1', null, 'Labels')),
    h('form', { class: 'filters', onsubmit: event => {
      event.preventDefault()
      location.hash = `#/labels?workflow=${new FormData(event.target).get('workflow')}`
    } },
    field('Workflow', 'workflow', { value: workflow, options: ids.map(id => [id, id]) }), h('button', { class: 'primary' }, 'Show'),
    h('a', { class: 'button', href: address('labels/export', { workflow }), download: `${workflow}.labels.jsonl` }, 'Export as JSON Lines'),
    h('a', { class: 'button', href: address('labels/export', { workflow, format: 'csv' }), download: `${workflow}.labels.csv` }, 'Export as CSV'),
    ctx.may('operator') && h('button', { type: 'button', onclick: () => lookBack(ctx, workflow) }, 'Look back'))]
}

function list({ labels, next_after: next }, workflow, after) {
  return h('div', { class: 'stack' },
    table('Labels by task', ['Task', 'Step', 'Value', 'By', 'Agreement', 'Sure', 'Votes', 'Completed'], labels.map(one => [
      taskLink(one.task_id), one.step, [text(one.value), changed(one)], one.resolved_by?.replaceAll('_', ' ') ?? '–', percent(one.agreement),
      one.confidence_now !== null ? percent(one.confidence_now, 1) : percent(one.confidence, 1),
      one.votes.map((vote, at) => [at > 0 && ', ', text(vote.value)]), ago(one.completed_at)]),
    { keys: labels.map(one => `${one.task_id}/${one.step}/${one.visit}`), empty: 'No task of this workflow is completed.' }),
    h('nav', { class: 'actions', 'aria-label': 'Pages' }, after && h('button', { onclick: () => history.back() }, 'Page before'),
      next && h('a', { class: 'button', href: `#/labels?${new URLSearchParams({ workflow, after: next })}` }, 'Next page')))
}

const changed = one => one.value_now !== null && JSON.stringify(one.value_now) !== JSON.stringify(one.value) && [' ', badge('another one now', 'warn')]

/** Tells consumers of answers that would be others now. */
async function lookBack(ctx, workflow) {
  const said = await ask(`Look back at ${workflow}`, 'The models of annotators judge all completed tasks again. For each answer that would be another one now a message is sent; no label changes.', [], 'Look back')
  if (!said) return
  await ctx.act('Look back', async () => {
    let after
    let [looked, changed] = [0, 0]
    do {
      const found = await post(`labels/look?${new URLSearchParams({ workflow, ...(after && { after }) })}`)
      looked += found.tasks
      changed += found.revised
      after = found.next_after
    } while (after)
    return `${number(looked)} tasks were looked at; ${number(changed)} answers would be others now`
  })
}

/** Of answers of a stated probability, how many were right. */
function calibrated(calibration) {
  const bins = calibration.flatMap(one => one.bins.filter(bin => bin.answers > 0).map(bin => ({ ...bin, step: one.step_id, against: one.against })))
  return bins.length > 0 && table('How sure answers were, and how often they were right', ['Step', 'Compared with', 'Stated', '#Answers', 'Right'], bins.map(bin => [
    bin.step, bin.against, `${percent(bin.from)} to ${percent(bin.to)}`, number(bin.answers), [bar(bin.share, bin.low, bin.high), ` ${percent(bin.share)}`]]))
}
