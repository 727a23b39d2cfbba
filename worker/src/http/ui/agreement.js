// Agreement over the newest items of each step and field, by class, and how both went.

import { get } from './api.js'
import { bar, exact, h, number, s, table, workflowLink } from './dom.js'

export async function view(ctx, place) {
  await ctx.live(place, async () => page((await get('agreement', {}, ctx.signal)).agreement), 5)
}

const MEASURES = [['agreement', 'Agreement'], ['alpha', 'Krippendorff’s α'], ['kappa', 'κ'], ['ac1', 'Gwet’s AC1']]

function page(all) {
  return h('div', { class: 'stack' },
    h('header', { class: 'head' }, h('h1', null, 'Agreement'), h('span', { class: 'dim' }, 'Before anybody was asked because of an answer; gold tasks left out')),
    all.length === 0 && h('p', { class: 'empty' }, 'Nothing was compared yet: at least two people must have answered the same task.'),
    all.map(one => card(one)))
}

const between = interval => interval && h('span', { class: 'dim' }, ` ${interval.lower.toFixed(2)} to ${interval.upper.toFixed(2)}`)

function card(one) {
  const measures = MEASURES.filter(([key]) => typeof one[key] === 'number')
  return h('article', { class: 'card', 'data-key': `${one.workflow}/${one.step_id}/${one.field ?? ''}` },
    h('h2', null, `${one.step_id}${one.field ? ` · ${one.field}` : ''}`, h('span', { class: 'figure' }, `${number(one.items)} ${one.items === 1 ? 'item' : 'items'}`)),
    h('p', { class: 'where' }, workflowLink(one.workflow), ` · ${one.measure.replaceAll('_', ' ')}${one.level ? `, ${one.level}` : ''} · the newest ${number(one.window)} at most`),
    h('ul', { class: 'plain measures' }, measures.map(([key, label]) => h('li', null, h('span', { class: 'name' }, label), bar(one[key], one[`${key}_interval`]?.lower, one[`${key}_interval`]?.upper), ` ${one[key].toFixed(2)}`, between(one[`${key}_interval`])))),
    course(one),
    one.classes?.length > 0 && table('By class', ['Answer', '#Given', 'Agreement'], one.classes.map(of => [
      nameOf(of.value), number(of.given),
      of.agreement === null ? 'not defined' : [bar(of.agreement, of.interval?.lower, of.interval?.upper), ` ${of.agreement.toFixed(2)}`, between(of.interval)]]),
    { keys: one.classes.map(of => JSON.stringify(of.value)) }))
}

const WIDTH = 640, HEIGHT = 150, LEFT = 34, RIGHT = 90, BOTTOM = 20, TOP = 6
const nameOf = answer => (typeof answer === 'string' ? answer : JSON.stringify(answer))

/** The agreement at each time, and on the answers that are most frequent now. */
function course(one) {
  const points = (one.history ?? []).map(point => ({ ...point, at: Date.parse(point.at) }))
  if (points.length < 2) return null
  const [begin, end] = [points[0].at, points.at(-1).at]
  const classes = (one.classes ?? []).slice(0, 5).map(of => nameOf(of.value))
  const lines = [
    { name: 'all', tone: 'all', values: points.map(point => point.agreement) },
    ...classes.map((name, at) => ({ name, tone: `tone-${at}`, values: points.map(point => point.classes?.find(of => nameOf(of.value) === name)?.agreement ?? null) })),
  ].filter(line => line.values.some(value => value !== null))
  const x = at => LEFT + ((at - begin) * (WIDTH - LEFT - RIGHT)) / Math.max(1, end - begin)
  const y = value => HEIGHT - BOTTOM - value * (HEIGHT - BOTTOM - TOP)
  // On a phone, letters are larger against the drawing.
  const ends = spread(lines.map(line => y(line.values.findLast(value => value !== null))), window.innerWidth < 736 ? 19 : 13)
  const word = at => new Date(at).toLocaleString('en-GB', end - begin > 2 * 86400000 ? { day: 'numeric', month: 'short' } : { hour: '2-digit', minute: '2-digit' })
  const described = lines.map(line => `${line.name} ${line.values.find(value => value !== null).toFixed(2)} to ${line.values.findLast(value => value !== null).toFixed(2)}`).join(', ')
  return s('svg', { class: 'course', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': `Agreement from ${exact(begin)} to ${exact(end)}: ${described}` },
    [0, 0.5, 1].map(value => [s('line', { class: 'axis', x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }), s('text', { x: LEFT - 6, y: y(value) + 4, 'text-anchor': 'end' }, String(value))]),
    s('text', { x: LEFT, y: HEIGHT - 4 }, word(begin)), s('text', { x: WIDTH - RIGHT, y: HEIGHT - 4, 'text-anchor': 'end' }, word(end)),
    lines.map((line, at) => {
      const places = line.values.map((value, n) => value !== null && `${x(points[n].at).toFixed(1)},${y(value).toFixed(1)}`).filter(Boolean)
      return s('g', { class: line.tone }, s('polyline', { class: 'line', points: places.join(' ') }), s('text', { x: WIDTH - RIGHT + 6, y: ends[at] + 4 }, line.name.length > 12 ? `${line.name.slice(0, 11)}…` : line.name))
    }))
}

/** Heights that are `least` apart, each as near to where it should be as its order allows. */
function spread(heights, least) {
  const order = heights.map((_, at) => at).sort((a, b) => heights[a] - heights[b])
  const placed = [...heights]
  order.forEach((at, n) => {
    if (n > 0) placed[at] = Math.max(placed[at], placed[order[n - 1]] + least)
  })
  return placed
}
