{{/* The container's environment. */}}
{{- define "targetgate.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- range $name, $value := fromYaml (include "targetgate.variables" .) }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Its plain variables. */}}
{{- define "targetgate.variables" -}}
{{- if ne .Values.certificates.source "self" }}
TARGETGATE_TLS_CERT: /tls/tls.crt
TARGETGATE_TLS_KEY: /tls/tls.key
{{- else if ne .Values.certificates.secretName "targetgate-tls" }}
TARGETGATE_TLS_SECRET: {{ .Values.certificates.secretName }}
{{- end }}
{{- if .Values.hostNetwork }}
{{- /* Loopback is the node's there, and every process of the node would be told. */}}
TARGETGATE_EXPLAIN_LISTEN: "off"
{{- end }}
{{- if kindIs "slice" .Values.allowList }}
TARGETGATE_ALLOW_ARNS: /allow/allow.yaml
{{- end }}
{{- with .Values.clientCA }}
{{- if .name }}
TARGETGATE_CLIENT_CA: /client-ca/{{ .key }}
{{- with .names }}
TARGETGATE_CLIENT_NAMES: {{ join "," . | quote }}
{{- end }}
{{- else if .names }}
{{- fail "clientCA.name is missing: what clientCA.names are names of" }}
{{- end }}
{{- end }}
{{- if ne .Values.optIn "namespace" }}
TARGETGATE_OPT_IN: {{ .Values.optIn }}
{{- end }}
{{- if eq .Values.admission.mode "both" }}
TARGETGATE_ADMISSION: both
{{- end }}
{{- with fromYamlArray (include "targetgate.excluded" .) }}
TARGETGATE_EXCLUDED_NAMESPACES: {{ join "," . | quote }}
{{- end }}
{{- if eq (toString .Values.drain.mode) "sleep" }}
TARGETGATE_DRAIN: sleep
{{- end }}
{{- with .Values.drain.seconds }}
{{- if or (ne (int .alb) 20) (ne (int .nlb) 100) }}
TARGETGATE_DRAIN_SECONDS: "alb={{ .alb }},nlb={{ .nlb }}"
{{- end }}
{{- end }}
{{- with .Values.targets }}
{{- if ne (toString .register) "none" }}
TARGETGATE_REGISTER: {{ .register }}
{{- with printf "%s/%s" .incumbent.leaseNamespace .incumbent.leaseName }}
{{- if ne . "kube-system/aws-load-balancer-controller-leader" }}
TARGETGATE_INCUMBENT_LEASE: {{ . }}
{{- end }}
{{- end }}
{{- with .incumbent.namespaces }}
TARGETGATE_INCUMBENT_NAMESPACES: {{ join "," . | quote }}
{{- end }}
{{- if eq (toString .sliceAddresses) "any" }}
TARGETGATE_SLICE_ADDRESSES: any
{{- end }}
{{- end }}
{{- end }}
{{- if ne (int .Values.ports.webhook) 9443 }}
TARGETGATE_LISTEN: "[::]:{{ .Values.ports.webhook }}"
{{- end }}
{{- if ne (int .Values.ports.admin) 8080 }}
TARGETGATE_ADMIN_LISTEN: "[::]:{{ .Values.ports.admin }}"
{{- end }}
{{- range $flag, $value := .Values.settings }}
TARGETGATE_{{ $flag | upper | replace "-" "_" }}: {{ $value | toString | quote }}
{{- end }}
{{- with .Values.aws.vpcId }}
TARGETGATE_VPC_ID: {{ . }}
{{- end }}
{{- with .Values.aws.region }}
AWS_REGION: {{ . }}
{{- end }}
{{- if .Values.aws.useFipsEndpoint }}
AWS_USE_FIPS_ENDPOINT: "true"
{{- end }}
{{- if .Values.aws.useDualstackEndpoint }}
AWS_USE_DUALSTACK_ENDPOINT: "true"
{{- end }}
{{- with .Values.proxy.https }}
HTTPS_PROXY: {{ . | quote }}
NO_PROXY: {{ join "," $.Values.proxy.bypass | quote }}
{{- end }}
{{- end }}
