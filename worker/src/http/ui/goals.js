// Goals: progress and how it went, and when each will be reached, with a band.

import { get, post } from './api.js'
import { ago, ask, badge, bar, coded, duration, exact, field, h, number, percent, s, serverNow, table, workflowLink } from './dom.js'

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
    contributions(goal),
    ctx.may('operator') && goal.by_hand && h('div', { class: 'actions' }, h('button', { onclick: () => complete(ctx, goal) }, 'Complete')))
}

function outlook(goal) {
  if (goal.completed) return ['Reached ', ago(goal.completed_at), '.']
  const { eta, reason, basis } = goal.forecast
  if (goal.type === 'manual') return 'It waits for a person who confirms it.'
  if (!eta) return coded(`No forecast: ${reason}.`)
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

/** What came from which step. */
function contributions({ steps = {}, unit }) {
  const rows = Object.entries(steps)
  if (rows.length < 2) return null
  return h('details', null, h('summary', null, unit === 'tasks' ? 'Completed visits by step' : 'By step'),
    table('By step', ['Step', '#Count'], rows.map(([step, count]) => [step, number(count)]), { keys: rows.map(([step]) => step), hideCaption: true }))
}

const WIDTH = 640, HEIGHT = 190, LEFT = 62, BOTTOM = 22, TOP = 8

/** How the value went since the goal began, and where the pace leads. */
function chart(goal) {
  const points = (goal.history ?? []).map(({ at, value: then }) => ({ at: Date.parse(at), value: then }))
  const isMeasured = ['volume', 'quality', 'duration'].includes(goal.type) || goal.unit === 'tasks' || goal.unit === 'annotations'
  if (!isMeasured || goal.current === null || goal.current === undefined || (points.length === 0 && !goal.forecast.eta)) return null
  const now = serverNow()
  const band = goal.completed ? null : bandOf(goal)
  const begin = Math.min(points[0]?.at ?? now, now - 60000)
  const ahead = band && goal.forecast.eta ? 1000 * Math.min(band.latest, (band.latest + band.soonest) * 2) : 0
  // The past keeps a third of the room at least.
  const end = Math.max(now + Math.min(ahead, 2 * (now - begin)), now + 1)
  const most = Math.max(goal.target, goal.current, ...points.map(point => point.value)) * 1.05 || 1
  const x = at => LEFT + ((at - begin) * (WIDTH - LEFT - 8)) / (end - begin)
  const y = amount => HEIGHT - BOTTOM - (amount / most) * (HEIGHT - BOTTOM - TOP)
  const place = (at, amount) => `${x(at).toFixed(1)},${y(amount).toFixed(1)}`
  const shown = points.filter(point => point.at <= now)
  const line = shown.flatMap((point, at) => (at === 0 ? [place(point.at, point.value)] : [place(point.at, shown[at - 1].value), place(point.at, point.value)]))
  const last = shown.at(-1)?.value ?? goal.current
  line.push(place(now, last), place(now, goal.current))
  const left = goal.target - goal.current
  // Where a line that reaches the target after so long is cut off by the edge of the drawing.
  const reaches = milliseconds => {
    const at = Math.min(now + milliseconds, end)
    return place(at, goal.current + (left * (at - now)) / milliseconds)
  }
  const deadline = goal.deadline && Date.parse(goal.deadline)
  const word = at => new Date(at).toLocaleString('en-GB', end - begin > 2 * 86400000 ? { day: 'numeric', month: 'short' } : { hour: '2-digit', minute: '2-digit' })
  const nowAt = x(now)
  const described = `${goal.goal}: ${value(goal, goal.current)} of ${value(goal, goal.target)} now${band && goal.forecast.eta ? `; at this pace reached between ${duration(band.soonest)} and ${duration(band.latest)} from now` : ''}`
  return s('svg', { class: 'burnup', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': described },
    s('line', { class: 'axis', x1: LEFT, x2: WIDTH - 8, y1: y(0), y2: y(0) }),
    s('text', { x: LEFT - 6, y: y(goal.target) + 4, 'text-anchor': 'end' }, value(goal, goal.target)), s('text', { x: LEFT - 6, y: y(0) + 4, 'text-anchor': 'end' }, '0'),
    s('line', { class: 'target', x1: LEFT, x2: WIDTH - 8, y1: y(goal.target), y2: y(goal.target) }),
    deadline && deadline > begin && deadline < end && s('line', { class: 'deadline', x1: x(deadline), x2: x(deadline), y1: TOP, y2: y(0) }),
    band && ahead > 0 && [s('polygon', { class: 'band', points: bandPoints(place, reaches, band, { now, end, goal }) }),
      s('polyline', { class: 'line ahead', points: `${place(now, goal.current)} ${reaches((left / goal.forecast.basis.per_hour) * 3600000)}` })],
    s('polyline', { class: 'line', points: line.join(' ') }),
    s('line', { class: 'now', x1: nowAt, x2: nowAt, y1: TOP, y2: y(0) }),
    s('text', { x: LEFT, y: HEIGHT - 5 }, word(begin)), nowAt - LEFT > 90 && s('text', { x: nowAt, y: HEIGHT - 5, 'text-anchor': nowAt > WIDTH - 60 ? 'end' : 'middle' }, 'now'),
    end - now > (end - begin) / 8 && s('text', { x: WIDTH - 8, y: HEIGHT - 5, 'text-anchor': 'end' }, word(end)))
}

/** Between the soonest and the latest line, up to the target. */
function bandPoints(place, reaches, band, { now, end, goal }) {
  const soonest = 1000 * band.soonest, latest = 1000 * band.latest
  const corner = now + soonest < end ? [place(Math.min(now + latest, end), goal.target)] : []
  return [place(now, goal.current), reaches(soonest), ...corner, reaches(latest)].join(' ')
}

async function complete(ctx, goal) {
  const { roles, checklist, needs_reason: needsReason } = goal.by_hand
  const said = await ask(`Complete ${goal.goal}`, 'What the goal sets off begins at once.', [
    field('Person', 'user_id', { hint: 'The UUID of the one who confirms; empty: nobody is named' }),
    roles.length > 0 && field('Role of the person', 'role', { options: roles.map(role => [role, role]) }),
    checklist.length > 0 && h('fieldset', null, h('legend', null, 'Confirmed'), checklist.map((item, at) => h('label', null, h('input', { type: 'checkbox', name: `item-${at}`, required: true }), ' ', item))),
    field('Reason', 'reason', { required: needsReason })], 'Complete')
  if (!said) return
  await ctx.act('Complete', () => post(`goals/${goal.workflow}/${goal.goal}/complete`, {
    user_id: said.user_id || undefined, roles: said.role ? [said.role] : [], checklist: checklist.filter((_, at) => said[`item-${at}`]), reason: said.reason || undefined }).then(() => undefined))
}
