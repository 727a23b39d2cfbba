// Goals: progress, and when each will be reached, with a band.

import { get, post } from './api.js'
import { ago, ask, badge, bar, duration, exact, field, h, number, percent, s, secondsSince, workflowLink } from './dom.js'

export async function view(ctx, place) {
  await ctx.live(place, async () => page(ctx, (await get('goals', {}, ctx.signal)).goals), 5)
}

function page(ctx, goals) {
  return h('div', { class: 'stack' }, h('header', { class: 'head' }, h('h1', null, 'Goals')),
    goals.length === 0 && h('p', { class: 'empty' }, 'No workflow declares a goal.'), goals.map(goal => card(ctx, goal)))
}

function value(goal, amount) {
  if (amount === null || amount === undefined) return 'not measured'
  if (goal.unit === 'seconds') return duration(amount)
  return Number.isInteger(amount) ? number(amount) : amount.toFixed(2)
}

function card(ctx, goal) {
  const unit = goal.unit === 'seconds' ? '' : ` ${goal.unit.replaceAll('_', ' ')}`
  return h('article', { class: 'card', 'data-key': `${goal.workflow}/${goal.goal}` },
    h('h2', null, goal.goal, ' ', badge(goal.status, goal.completed ? 'good' : goal.missed_at ? 'bad' : 'info'), h('span', { class: 'figure' }, percent(goal.ratio))),
    goal.description && h('p', null, goal.description),
    h('p', { class: 'where' }, workflowLink(goal.workflow), ` · ${goal.type} · since `, ago(goal.since), goal.deadline && [' · until ', exact(goal.deadline)]),
    h('p', null, bar(goal.ratio), ` ${value(goal, goal.current)} of ${value(goal, goal.target)}${unit}`, goal.interval && h('span', { class: 'dim' }, ` (${goal.interval.lower?.toFixed(2)} to ${goal.interval.upper?.toFixed(2)})`)),
    goal.undefined && h('p', { class: 'dim' }, `Not measured: ${goal.undefined}.`),
    h('p', null, outlook(goal)), chart(goal),
    goal.alerts?.length > 0 && h('p', null, goal.alerts.map(alert => [badge(alert.alert, alert.active ? 'warn' : 'dim'), ' ', ago(alert.raised_at), ' '])),
    goal.actions?.length > 0 && h('p', { class: 'dim' }, 'When it is reached: ', goal.actions.map((action, at) => [at > 0 && ', ', `${action.action} (${action.status}${action.last_error ? `: ${action.last_error}` : ''})`])),
    ctx.may('operator') && goal.type === 'manual' && !goal.completed && h('div', { class: 'actions' }, h('button', { onclick: () => complete(ctx, goal) }, 'Complete')))
}

function outlook(goal) {
  if (goal.completed) return ['Reached ', ago(goal.completed_at), '.']
  const { eta, reason, basis } = goal.forecast
  if (!eta) return `No forecast: ${reason}.`
  const band = bandOf(goal)
  return [`Reached about ${exact(eta)}`, band && ` (${duration(band.soonest)} to ${duration(band.latest)} from now)`, basis.per_hour && `, at ${number(basis.per_hour)} an hour`, '.']
}

/** The forecast is a count over a time: its error is that of the count (95 %). */
function bandOf({ forecast: { basis }, target, current }) {
  if (!basis?.events || !basis.per_hour || current === null) return null
  const spread = 1.96 / Math.sqrt(basis.events)
  const seconds = ((target - current) / basis.per_hour) * 3600
  return { soonest: seconds / (1 + spread), latest: spread < 1 ? seconds / (1 - spread) : seconds * 10 }
}

/** What was done since the goal began, and where the pace leads. */
function chart(goal) {
  const band = bandOf(goal)
  if (goal.completed || !band || !goal.forecast.eta) return null
  const past = secondsSince(goal.since)
  const end = past + Math.min(band.latest, (band.latest + band.soonest) * 2)
  const width = 480, height = 120
  const x = at => ((at * width) / end).toFixed(1)
  const y = amount => (height - 4 - (amount / goal.target) * (height - 8)).toFixed(1)
  const now = `${x(past)},${y(goal.current)}`
  const ahead = seconds => {
    const at = Math.min(past + seconds, end)
    return `${x(at)},${y(goal.current + ((goal.target - goal.current) * (at - past)) / seconds)}`
  }
  return s('svg', { class: 'burnup', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${goal.goal}: ${percent(goal.ratio)} now; reached between ${duration(band.soonest)} and ${duration(band.latest)} from now at this pace` },
    s('line', { class: 'target', x1: 0, x2: width, y1: y(goal.target), y2: y(goal.target) }),
    s('polygon', { class: 'band', points: `${now} ${ahead(band.soonest)} ${x(end)},${y(goal.target)} ${ahead(band.latest)}` }),
    s('polyline', { class: 'line', points: `0,${y(0)} ${now}` }),
    s('polyline', { class: 'line ahead', points: `${now} ${ahead(((goal.target - goal.current) / goal.forecast.basis.per_hour) * 3600)}` }))
}

async function complete(ctx, goal) {
  const said = await ask(`Complete ${goal.goal}`, 'What the goal sets off begins at once.', [
    field('Person', 'user_id', { hint: 'The UUID of the one who confirms, where the goal asks for one' }), field('Roles', 'roles', { hint: 'With commas between them' }),
    field('Checklist', 'checklist', { hint: 'Items that are confirmed, with commas between them' }), field('Reason', 'reason')], 'Complete')
  if (!said) return
  const listed = text => text.split(',').map(part => part.trim()).filter(Boolean)
  await ctx.act('Complete', () => post(`goals/${goal.workflow}/${goal.goal}/complete`, {
    user_id: said.user_id || undefined, roles: listed(said.roles), checklist: listed(said.checklist), reason: said.reason || undefined }).then(() => undefined))
}
