// Agreement over the newest items of each step and field, and by class.

import { get } from './api.js'
import { bar, h, number, table, workflowLink } from './dom.js'

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
    one.classes?.length > 0 && table('By class', ['Answer', '#Given', 'Agreement'], one.classes.map(of => [
      typeof of.value === 'string' ? of.value : JSON.stringify(of.value), number(of.given),
      of.agreement === null ? 'not defined' : [bar(of.agreement, of.interval?.lower, of.interval?.upper), ` ${of.agreement.toFixed(2)}`, between(of.interval)]]),
    { keys: one.classes.map(of => JSON.stringify(of.value)) }))
}
