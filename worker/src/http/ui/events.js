// Events in words.

import { percent, short } from './dom.js'

/** An event in words. Kinds that are not known here are named as they are. */
export function sentence({ event_type: type, event_data: data }) {
  const at = data?.step_id ? ` ${data.step_id}` : ''
  const because = data?.reason ? ` (${data.reason})` : ''
  const who = data?.user_id ? short(data.user_id) : ''
  switch (type) {
    case 'workflow_started': return `Started in ${data.workflow}@${data.revision}`
    case 'task_details_supplied': return 'Input and labels supplied'
    case 'step_activated': return `Entered${at}${data.visit > 1 ? `, visit ${data.visit}` : ''}`
    case 'step_completed': return `Ended${at}${data.result?.value === null || data.result?.value === undefined ? ' without a value' : `: ${brief(data.result.value)}`}`
    case 'step_failed': return `Failed${at}: ${data.error ?? data.reason ?? ''}`
    case 'step_skipped': return `Skipped${at}${because}`
    case 'step_withdrawn': return `Withdrew${at}`
    case 'annotation_submitted': return `${short(data.annotation.user_id)} submitted to${at}: ${data.annotation.decision ?? brief(data.annotation.data)}`
    case 'task_assigned': return `${who} claimed a slot of${at}`
    case 'activity_recorded': return `${who} is at work in${at}${data.draft ? ', with a draft' : ''}`
    case 'task_released': return `${who} gave back a slot of${at}${because}`
    case 'task_stalled': return `${who} was inactive in${at}`
    case 'places_added': return `More people asked in${at}`
    case 'consensus_calculated': return `Compared${at}: ${data.agreement === null ? 'agreement not defined' : `agreement ${percent(data.agreement)}`}`
    case 'transition_occurred': return `Went from ${data.from_step} to ${data.to_step.replace(/^_/, '')} (${data.condition_met.replace(/^on_/, '')})`
    case 'incident_opened': return `Incident ${data.code} in${at}: ${data.reason}`
    case 'incident_resolved': return `Incident in${at} resolved by ${data.resolution}`
    case 'workflow_paused': return `Paused${at}${because}`
    case 'workflow_resumed': return `Resumed${at}${because}`
    case 'workflow_migrated': return `Migrated to revision ${data.to?.revision ?? data.revision ?? ''}`
    case 'workflow_completed': return 'Completed'
    case 'workflow_failed': return `Failed: ${data.error ?? ''}`
    case 'workflow_cancelled': return `Cancelled${because}`
    case 'handler_requested': return `Handler called in${at}${data.attempt ? `, attempt ${data.attempt}` : ''}`
    case 'handler_failed': return `Handler failed in${at}: ${data.error ?? ''}`
    case 'gold_scored': return `Compared with the known answer in${at}: ${data.correct ? 'right' : 'wrong'}`
    default: return type.replaceAll('_', ' ') + at
  }
}

function brief(value) {
  const keys = value !== null && typeof value === 'object' && !Array.isArray(value) ? Object.keys(value) : []
  if (keys.length === 1) return brief(value[keys[0]])
  if (Array.isArray(value) && value.some(one => typeof one === 'object')) return `${value.length} region${value.length === 1 ? '' : 's'}`
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return text.length > 60 ? `${text.slice(0, 59)}…` : text
}
