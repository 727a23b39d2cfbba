// Labels: what tasks were completed with. Likely errors first, all in pages, and export.

import { get } from './api.js'
import { ago, badge, field, h, number, percent, table, taskLink, toast } from './dom.js'

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
  place.replaceChildren(h('div', { class: 'stack' }, head(ctx, workflow, ids), after ? null : likely, listed))
  if (!after) suspects(ctx, workflow, likely)
  await ctx.live(listed, async () => list(await get('labels', { workflow, limit: 50, after }, ctx.signal), workflow, after), 5)
}

/** Looks once: with many tasks it takes the worker some seconds. */
async function suspects(ctx, workflow, likely) {
  try {
    const found = await get('labels/suspect', { workflow, limit: 20 }, ctx.signal)
    likely.replaceChildren(table('Most likely wrong', ['Task', 'Step', 'Delivered', 'Now', 'Probably wrong'], found.suspects.map(one => [
      taskLink(one.task_id), `${one.step}${one.field ? ` · ${one.field}` : ''}`, text(one.value), text(one.value_now), percent(one.error_probability, 1)]),
    { empty: `No likely error among ${number(found.tasks)} tasks. Models know categories only.` }),
    found.next_after ? h('p', { class: 'notice' }, `These are of the first ${number(found.tasks)} tasks; glyph labels suspect reads all.`) : '')
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
    h('button', { type: 'button', onclick: event => save(ctx, event.target, workflow) }, 'Export as JSON Lines'))]
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

/** All labels, page by page, as a file. */
async function save(ctx, button, workflow) {
  const lines = []
  button.disabled = true
  try {
    let after
    do {
      const page = await get('labels', { workflow, limit: 1000, after }, ctx.signal)
      for (const label of page.labels) lines.push(JSON.stringify(label))
      after = page.next_after
      button.textContent = `Reading: ${number(lines.length)} labels`
    } while (after)
    const link = h('a', { href: URL.createObjectURL(new Blob(lines.map(line => `${line}\n`), { type: 'application/jsonl' })), download: `${workflow}.labels.jsonl` })
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 60000)
    toast(`${number(lines.length)} labels exported`, 'good')
  } catch (error) {
    if (error.name !== 'AbortError') toast(error.message, 'bad')
  } finally {
    button.disabled = false
    button.textContent = 'Export as JSON Lines'
  }
}
