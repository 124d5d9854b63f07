{{/* There is one installation in a cluster, so everything has one name, but for the ServiceAccount that another
     tool may have created. */}}
{{- define "targetgate.metadata" -}}
{{ include "targetgate.labelled" (list . "targetgate") }}
{{- end }}

{{- define "targetgate.account" -}}
{{ .Values.serviceAccount.name | default "targetgate" }}
{{- end }}

{{/* Of which bindings targets are registered. The values of an older chart do not say it. */}}
{{- define "targetgate.register" -}}
{{ dig "register" "none" (.Values.targets | default dict) }}
{{- end }}

{{/* The metadata of an object, from the root and its name. */}}
{{- define "targetgate.labelled" -}}
metadata:
  name: {{ last . }}
  labels:
    {{- include "targetgate.labels" (first .) | nindent 4 }}
{{- end }}

{{- define "targetgate.labels" -}}
{{ include "targetgate.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "targetgate.namespaced" -}}
{{ include "targetgate.metadata" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* The bindings of a ClusterRole and a Role to our account, from the root and the name of both roles. */}}
{{- define "targetgate.roleBindings" -}}
{{- $name := last . -}}
{{- $root := first . -}}
{{- range list "Cluster" "" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ . }}RoleBinding
{{ include "targetgate.labelled" (list $root $name) }}
{{- if eq . "" }}
  namespace: {{ $root.Release.Namespace }}
{{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ . }}Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "targetgate.account" $root }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}
{{- end }}

{{- define "targetgate.selector" -}}
app.kubernetes.io/name: targetgate
{{- end }}

{{- define "targetgate.image" -}}
{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The namespaces that the hook of pods leaves out, besides our own, as a list in YAML. */}}
{{- define "targetgate.excluded" -}}
{{- $excluded := .Values.hooks.excludedNamespaces -}}
{{- if eq .Values.hooks.pods.failurePolicy "Fail" }}{{ $excluded = append $excluded "kube-system" }}{{ end -}}
{{ $excluded | uniq | toJson }}
{{- end }}

{{- define "targetgate.injectCA" -}}
{{- if eq .Values.certificates.source "cert-manager" }}
  annotations:
    cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/targetgate
{{- end }}
{{- end }}

{{/* What all webhooks have, from the root, the path, and the policy. There is no caBundle unless it is given: the
     maker of the certificates writes it, and an upgrade must leave it as it is. */}}
{{- define "targetgate.webhook" -}}
{{- $policy := last . -}}
{{- $certificates := (first .).Values.certificates -}}
admissionReviewVersions: [v1]
sideEffects: None
failurePolicy: {{ $policy.failurePolicy }}
timeoutSeconds: {{ $policy.timeoutSeconds }}
clientConfig:
  {{- with $certificates.caBundle }}
  {{- if ne $certificates.source "secret" }}
  {{- fail "certificates.caBundle is for certificates.source=secret: with the other sources, caBundle is filled in" }}
  {{- end }}
  caBundle: {{ b64enc . }}
  {{- end }}
  service:
    name: targetgate
    namespace: {{ (first .).Release.Namespace }}
    path: {{ index . 1 }}
{{- end }}
