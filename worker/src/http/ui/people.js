// People: how reliable each is by what the models know, what they hold, and pausing them.

import { get, post } from './api.js'
import { ago, ask, badge, bar, exact, field, h, number, percent, personLink, short, table, taskLink, workflowLink } from './dom.js'

export async function view(ctx, place) {
  if (ctx.parts[0]) return person(ctx, place)
  const { workflows } = await get('workflows', { archived: true }, ctx.signal)
  const ids = [...new Set(workflows.map(one => one.workflow))].sort()
  const workflow = ctx.query.get('workflow') ?? ids[0] ?? ''
  await ctx.live(place, async () => {
    const [known, stuck] = await Promise.all([models(ctx, place, workflow), get('stuck', {}, ctx.signal)])
    return list(known, stuck.claims, workflow, ids)
  }, 5)
}

/**
 * What the models know. Who asks first after a start may have to wait until they have read what came since they were kept; what they have
 * learned so far stays, so it is asked again.
 */
async function models(ctx, place, workflow) {
  for (;;) {
    try {
      return await get('annotators', { workflow }, ctx.signal)
    } catch (error) {
      if (error.status !== 504) throw error
      place.replaceChildren(h('p', { class: 'empty', role: 'status' }, 'The models of annotators read the log first. With many tasks this takes a while.'))
    }
  }
}

const choose = (workflow, ids) => h('form', { class: 'filters', onsubmit: event => {
  event.preventDefault()
  location.hash = `#/people?workflow=${new FormData(event.target).get('workflow')}`
} }, field('Workflow', 'workflow', { value: workflow, options: ids.map(id => [id, id]) }), h('button', { class: 'primary' }, 'Show'))

const question = one => `${one.step_id}${one.field ? ` · ${one.field}` : ''}`

function list(known, claims, workflow, ids) {
  const rows = [...(known.accuracies ?? [])].sort((a, b) => question(a).localeCompare(question(b)) || b.accuracy - a.accuracy)
  const held = new Map(claims.map(claim => [claim.user_id, claim.slots]))
  const paused = known.annotators.filter(one => one.paused)
  return h('div', { class: 'stack' }, h('header', { class: 'head' }, h('h1', null, 'People')), choose(workflow, ids),
    paused.length > 0 && h('p', { class: 'notice' }, 'Paused: ', paused.map(one => [personLink(one.user_id), ' '])),
    table('Accuracy as the models of the questions know it', ['Person', 'Question', 'Accuracy', 'Lately', '#Answers', 'Agrees with others', 'Gold', '#Holds'], rows.map(one => [
      personLink(one.user_id), question(one), accuracy(one), one.lately ? percent(one.lately.accuracy) : '–', number(one.labels), percent(one.agreement_with_others),
      one.gold_answers > 0 ? `${one.gold_right} of ${one.gold_answers}` : '–', number(held.get(one.user_id) ?? 0)]),
    { keys: rows.map(one => `${one.user_id}/${question(one)}`), empty: 'Nobody has answered a question of this workflow whose answers are categories.' }),
    known.suspicious_pairs?.length > 0 && table('Pairs who agree suspiciously', ['Pair', 'Question', '#Items', '#Alike', 'Expected'], known.suspicious_pairs.map(pair => [
      pair.user_ids.map(id => [personLink(id), ' ']), question(pair), number(pair.items), number(pair.alike), pair.alike_expected.toFixed(1)])))
}

function accuracy(one) {
  return [bar(one.accuracy, one.low, one.high), ` ${percent(one.accuracy)} `, h('span', { class: 'dim' }, `${percent(one.low)} to ${percent(one.high)}`)]
}

async function person(ctx, place) {
  const id = ctx.parts[0]
  ctx.title(`Person ${short(id)}`)
  await ctx.live(place, async () => {
    const [report, held] = await Promise.all([get(`annotators/${id}`, {}, ctx.signal), get('assignments', { user_id: id, limit: 100 }, ctx.signal)])
    return one(ctx, id, report, held)
  }, 5)
}

function one(ctx, id, report, held) {
  const workflows = [...new Set([...report.questions.map(of => of.workflow), ...report.workflows.map(of => of.workflow), ...held.assignments.map(of => of.workflow)])]
  const paused = new Map(report.workflows.filter(of => of.paused).map(of => [of.workflow, of.paused]))
  return h('div', { class: 'stack' },
    h('header', { class: 'head' }, h('h1', null, 'Person ', h('code', { class: 'id' }, id))),
    ctx.may('operator', 'producer') && held.assignments.length > 0 && h('div', { class: 'actions' }, h('button', { onclick: () => release(ctx, id, held.assignments.length) }, 'Release all slots')),
    table('Slots held', ['Task', 'Workflow', 'Step', 'Since', 'Lapses', 'Draft'], held.assignments.map(slot => [
      taskLink(slot.task_id), workflowLink(slot.workflow, slot.revision), slot.step_id, ago(slot.since), exact(slot.expires_at), slot.draft === undefined ? '–' : 'there is one']),
    { keys: held.assignments.map(slot => `${slot.task_id}/${slot.step_id}`), empty: 'This person holds no slot.' }),
    held.next_after && h('p', { class: 'notice' }, 'There are more; these are the first hundred.'),
    workflows.length > 0 && table('In workflows', ['Workflow', 'State', 'Action'], workflows.map(workflow => [
      workflowLink(workflow), paused.has(workflow) ? [badge('paused', 'warn'), ' ', paused.get(workflow).reason ?? '', ' ', ago(paused.get(workflow).since)] : badge('active', 'good'),
      ctx.may('operator') && (paused.has(workflow)
        ? h('button', { onclick: () => change(ctx, workflow, id, 'Resume', 'Answers count anew from now on.') }, 'Resume')
        : h('button', { onclick: () => change(ctx, workflow, id, 'Pause', 'No more slots are offered; what is held may be ended.') }, 'Pause'))]),
    { keys: workflows }),
    report.questions.length === 0 && h('p', { class: 'empty' }, 'No model knows this person yet: models learn from answers that are categories.'),
    report.questions.map(of => questionCard(of)))
}

function questionCard(of) {
  return h('article', { class: 'card', 'data-key': `${of.workflow}/${question(of)}` },
    h('h2', null, `${of.workflow} · ${question(of)}`, h('span', { class: 'figure' }, `${number(of.labels)} answers`)),
    h('p', null, 'Accuracy ', accuracy(of), `. Agrees with others ${percent(of.agreement_with_others)} over ${number(of.compared)} comparisons`, of.gold_answers > 0 && `; right on ${of.gold_right} of ${of.gold_answers} gold tasks`, '.'),
    of.change && h('p', { class: 'notice' }, `It changed from ${percent(of.change.before)} to ${percent(of.change.now)} at task `, taskLink(of.change.task_id), '.'),
    of.classes.length > 0 && of.confusion.length > 0 && table('What is answered where the truth is', ['Truth', ...of.classes.map(value => `#${name(value)}`)],
      of.confusion.map((row, at) => [h('strong', null, name(of.classes[at])), ...row.map((share, to) => h('span', { class: at === to ? null : share > 0.2 ? 'other' : 'dim' }, percent(share)))])))
}

const name = value => (typeof value === 'string' ? value : JSON.stringify(value))

async function change(ctx, workflow, id, label, text) {
  const said = await ask(`${label} ${short(id)} in ${workflow}`, text, [field('Reason', 'reason')], label)
  if (said) await ctx.act(label, () => post(`workflows/${workflow}/annotators/${id}/${label.toLowerCase()}`, { reason: said.reason || undefined }).then(() => undefined))
}

async function release(ctx, id, count) {
  const said = await ask(`Release ${count} slots`, 'They are offered to others; drafts are kept.', [field('Reason', 'reason')], 'Release')
  if (!said) return
  await ctx.act('Release', async () => {
    const { released, kept = [] } = await post(`assignments/release?user_id=${id}`, { reason: said.reason || undefined })
    return `${released.length} released${kept.length ? `, ${kept.length} could not be (${kept[0].code})` : ''}`
  })
}
